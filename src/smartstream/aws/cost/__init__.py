"""What the stack costs a month at list prices, without asking AWS.

The walk: ``variables`` reads the stack's variables as Terraform would; ``estimate``
turns them into lines of quantity and price; ``prices`` is the price file;
``schedules`` counts runs; ``markdown`` writes the tables of the documentation.
"""
