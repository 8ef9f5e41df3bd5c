# A VPC for the two things that need one: RDS and DMS. The Lambda functions stay outside: they
# talk to S3, Glue, DynamoDB and SQS only, over TLS and with IAM, and reach nothing in here.
# Inside, each of their requests would pay for the NAT gateway or for seven interface endpoints.

resource "aws_vpc" "this" {
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.name }
}

# The group that things get when nobody says which: it lets nothing in and nothing out.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.name}-default-closed" }
}

resource "aws_subnet" "private" {
  count = var.az_count

  vpc_id            = aws_vpc.this.id
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, count.index + 8)
  availability_zone = local.azs[count.index]
  tags              = { Name = "${local.name}-private-${local.azs[count.index]}" }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.name}-private" }
}

resource "aws_route_table_association" "private" {
  count = var.az_count

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

# egress_mode = "nat": public subnets hold the NAT gateway and nothing else. It is one gateway
# for all zones: when its zone fails, DMS stops and later goes on from its slot, and nothing is
# lost, so that a second one would pay $34 a month for less waiting only.
resource "aws_subnet" "public" {
  count = var.egress_mode == "nat" ? var.az_count : 0

  vpc_id                  = aws_vpc.this.id
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, count.index)
  availability_zone       = local.azs[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${local.name}-public-${local.azs[count.index]}" }
}

resource "aws_internet_gateway" "this" {
  count = var.egress_mode == "nat" ? 1 : 0

  vpc_id = aws_vpc.this.id
  tags   = { Name = local.name }
}

resource "aws_eip" "nat" {
  count = var.egress_mode == "nat" ? 1 : 0

  domain = "vpc"
  tags   = { Name = "${local.name}-nat" }
}

resource "aws_nat_gateway" "this" {
  count = var.egress_mode == "nat" ? 1 : 0

  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.public[0].id
  tags          = { Name = local.name }
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "public" {
  count = var.egress_mode == "nat" ? 1 : 0

  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.name}-public" }
}

resource "aws_route" "public_internet" {
  count = var.egress_mode == "nat" ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count = length(aws_subnet.public)

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route" "private_nat" {
  count = var.egress_mode == "nat" ? 1 : 0

  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[0].id
}

# Security groups: RDS hears DMS and nobody else. Rules are resources of their own, so that the
# two groups can name each other.
resource "aws_security_group" "rds" {
  name_prefix = "${local.name}-rds-"
  description = "PostgreSQL source: reached by DMS only, reaches nothing"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${local.name}-rds" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "dms" {
  name_prefix = "${local.name}-dms-"
  description = "DMS replication instance: reaches PostgreSQL and AWS, reached by nobody"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${local.name}-dms" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "endpoints" {
  count = var.egress_mode == "vpc_endpoints" ? 1 : 0

  name_prefix = "${local.name}-endpoints-"
  description = "Interface endpoints: reached by DMS only, reach nothing"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${local.name}-endpoints" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "rds_from_dms" {
  security_group_id            = aws_security_group.rds.id
  referenced_security_group_id = aws_security_group.dms.id
  ip_protocol                  = "tcp"
  from_port                    = local.db_port
  to_port                      = local.db_port
  description                  = "PostgreSQL from DMS"
}

resource "aws_vpc_security_group_egress_rule" "dms_to_rds" {
  security_group_id            = aws_security_group.dms.id
  referenced_security_group_id = aws_security_group.rds.id
  ip_protocol                  = "tcp"
  from_port                    = local.db_port
  to_port                      = local.db_port
  description                  = "PostgreSQL to RDS"
}

# AWS's public addresses change, so behind NAT the port is all that can be narrowed down.
resource "aws_vpc_security_group_egress_rule" "dms_https" {
  count = var.egress_mode == "nat" ? 1 : 0

  security_group_id = aws_security_group.dms.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "HTTPS to Kinesis and Secrets Manager"
}

resource "aws_vpc_security_group_egress_rule" "dms_to_endpoints" {
  count = var.egress_mode == "vpc_endpoints" ? 1 : 0

  security_group_id            = aws_security_group.dms.id
  referenced_security_group_id = aws_security_group.endpoints[0].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  description                  = "HTTPS to the interface endpoints"
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_dms" {
  count = var.egress_mode == "vpc_endpoints" ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  referenced_security_group_id = aws_security_group.dms.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  description                  = "HTTPS from DMS"
}

# egress_mode = "vpc_endpoints": all that DMS itself calls from inside the VPC. Its logs and
# metrics leave on AWS's side. Each endpoint costs per zone and hour, so there is none to spare.
locals {
  interface_endpoints = var.egress_mode == "vpc_endpoints" ? toset(["kinesis-streams", "secretsmanager"]) : toset([])

  # An endpoint without a policy is a way out to every account's streams and secrets.
  endpoint_grants = {
    kinesis-streams = {
      role     = aws_iam_role.dms_kinesis.arn
      actions  = ["kinesis:DescribeStream", "kinesis:PutRecord", "kinesis:PutRecords"]
      resource = aws_kinesis_stream.cdc.arn
    }
    secretsmanager = {
      role     = aws_iam_role.dms_secrets.arn
      actions  = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
      resource = aws_secretsmanager_secret.dms_source.arn
    }
  }
}

data "aws_iam_policy_document" "interface_endpoint" {
  for_each = local.interface_endpoints

  statement {
    sid       = "DmsOnly"
    actions   = local.endpoint_grants[each.key].actions
    resources = [local.endpoint_grants[each.key].resource]
    principals {
      type        = "AWS"
      identifiers = [local.endpoint_grants[each.key].role]
    }
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.interface_endpoints

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = aws_subnet.private[*].id
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.interface_endpoint[each.key].json
  tags                = { Name = "${local.name}-${each.key}" }
}

# Free, in both modes: what in the VPC reads the lake doesn't pay for NAT. A gateway endpoint's
# policy can name no roles, only "everybody" under a condition.
data "aws_iam_policy_document" "s3_endpoint" {
  statement {
    sid       = "OwnLakeOnly"
    actions   = ["s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    resources = [aws_s3_bucket.this["data_lake"].arn, "${aws_s3_bucket.this["data_lake"].arn}/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private.id]
  policy            = data.aws_iam_policy_document.s3_endpoint.json
  tags              = { Name = "${local.name}-s3" }
}

resource "aws_flow_log" "this" {
  count = var.enable_flow_logs ? 1 : 0

  vpc_id          = aws_vpc.this.id
  traffic_type    = "ALL"
  log_destination = aws_cloudwatch_log_group.this["vpc_flow"].arn
  iam_role_arn    = aws_iam_role.flow_logs[0].arn
  # Ten minutes instead of one: a tenth of the lines, and they are read after the fact.
  max_aggregation_interval = 600
  tags                     = { Name = local.name }
  depends_on               = [aws_iam_role_policy.flow_logs]
}
