"""Every built-in type, kinds of types that users make, and types of extensions, with their edge values.

This is the one place: the fidelity tests run these values through the pipeline, random
tables are made of them, and docs/types.md is printed from them (``types_table.page``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TypeCase:
    """A column type, how it is carried, and SQL expressions of values that it must survive.

    Attributes:
        carried: the type of the lake's column, as Iceberg names it.
        values: are carried exactly.
        flagged: the lake's type can't hold them: null in the column, text in ``_untyped``.
        huge: more values, of kilobytes: exact if ``carried`` is string, else flagged.
        needs: an extension, or ``libxml``, that the server may lack.
        note: for the page.
    """

    column: str
    sql: str
    carried: str
    values: tuple[str, ...]
    flagged: tuple[str, ...] = ()
    huge: tuple[str, ...] = ()
    needs: str = ""
    note: str = ""


_FLOATS = ("'NaN'", "'Infinity'", "'-Infinity'")
_MAC = "'08:00:2b:01:02:03'"

# fmt: off
# ruff: noqa: E501
NUMBERS = (
    TypeCase("c_smallint", "smallint", "int", ("0", "-32768", "32767")),
    TypeCase("c_integer", "integer", "int", ("0", "-2147483648", "2147483647")),
    TypeCase("c_bigint", "bigint", "long", ("0", "-9223372036854775808", "9223372036854775807")),
    TypeCase("c_real", "real", "float", ("0", "'-0'", "1.1", "3.4028235e38", "-3.4028235e38", "1e-45", "1.17549435e-38", *_FLOATS)),
    TypeCase("c_double", "double precision", "double", ("0", "'-0'", "0.1", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", *_FLOATS)),
    TypeCase("c_numeric", "numeric(10,2)", "decimal(10, 2)", ("0", "-99999999.99", "99999999.99", "1.5"), ("'NaN'",)),
    TypeCase("c_numeric_38", "numeric(38,10)", "decimal(38, 10)", ("0", "9999999999999999999999999999.9999999999", "-1e-10"), ("'NaN'",)),
    TypeCase("c_numeric_small", "numeric(4,4)", "decimal(4, 4)", ("0", "0.9999", "-0.0001"), ("'NaN'",)),
    TypeCase("c_numeric_whole", "numeric(38)", "decimal(38, 0)", ("0", "99999999999999999999999999999999999999", "-1"), ("'NaN'",)),
    TypeCase("c_numeric_wide", "numeric(60,5)", "string", ("1", "'1234567890123456789012345678901234567890.12345'", "'NaN'")),
    TypeCase("c_numeric_bare", "numeric", "decimal(38, 20)",
        ("0", "1.500000000000000000000000", "-123456789012345678.12345678901234567890", "1e15", "999999999999999999.99999999999999999999", "-1e-20"),
        ("'NaN'", "'1e30'", "1e-21", "'Infinity'", "'-Infinity'", "1e18", "'1e-1000'", "'123456789.1e-900'"),
        ("repeat('9', 131072)::numeric", "'-1e131071'::numeric", "('0.' || repeat('7', 16383))::numeric"),
        note="trailing zeros are not kept: 1.50 and 1.5 are one number"),
    TypeCase("c_numeric_rounding", "numeric(5,-2)", "string", ("0", "12300", "-9999900", "'NaN'"), note="PostgreSQL 15 and later"),
    TypeCase("c_numeric_below", "numeric(3,5)", "string", ("0", "0.00999", "-0.00001"), note="PostgreSQL 15 and later"),
    TypeCase("c_numeric_1000", "numeric(1000,1000)", "string", ("0", "'1e-1000'", "'NaN'")),
    TypeCase("c_money", "money", "string", ("0", "-12.34", "'-92233720368547758.08'", "'92233720368547758.07'"), note="as the server's `lc_monetary` prints it"),
    TypeCase("c_bool", "boolean", "boolean", ("true", "false")),
)

TEXTS = (
    TypeCase("c_text", "text", "string",
        ("''", "'a'", "E'tab\\tnewline\\n\\\\ quote '' \"'", "'žluť 😀'", "'NULL'", "repeat('x', 10000)", r"'\N'", r"E'\x01\r\n\x7f'"),
        huge=("repeat('long €', 5000)",)),
    TypeCase("c_varchar", "varchar(20)", "string", ("''", "'trailing   '", "repeat('€', 20)")),
    TypeCase("c_char", "char(5)", "string", ("''", "'ab'", "'abcde'", "'€'"), note="padded, as PostgreSQL prints it"),
    TypeCase("c_name", "name", "string", ("'a name'", "''", "repeat('n', 63)")),
    TypeCase("c_quoted_char", '"char"', "string", ("'x'", "''", "' '")),
    TypeCase("c_bytea", "bytea", "binary", ("''", r"'\x00'", r"'\xdeadbeef00ff'", r"'\x5c5c27220a'"), huge=("decode(repeat('00ff', 10000), 'hex')",)),
    TypeCase("c_uuid", "uuid", "string", ("'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")),
    TypeCase("c_json", "json", "string", ("'{}'", '\'{"a":  [1, null, "ž"], "a": 1e400}\'', "'null'", "' [1 ,\t2] '"), note="its text as it was written"),
    TypeCase("c_jsonb", "jsonb", "string", ("'{}'", '\'{"b": 1.10, "a": "x"}\'', "'null'", "'1e400'", r"""'"\u20ac \" \\ \n"'""")),
    TypeCase("c_jsonpath", "jsonpath", "string", ("'$'", "'strict $.a[*] ? (@.b > 1)'", "'$.\"a b\".size()'")),
    TypeCase("c_xml", "xml", "string", ("'<a b=\"1\">&lt;€</a>'", "'text'", "'<?xml version=\"1.0\"?><r/>'"), needs="libxml"),
    TypeCase("c_tsvector", "tsvector", "string", ("'a fat cat'", "''", "'a:1A fat:2B,4C ''q uote'':5'", "to_tsvector('english', 'The Fat Rats')")),
    TypeCase("c_tsquery", "tsquery", "string", ("'fat & (rat | !cat:*)'", "''", "'a <2> b'", "'super:*ab'")),
    TypeCase("c_bit", "bit(3)", "string", ("B'101'", "B'000'", "B'111'")),
    TypeCase("c_bit_plain", "bit", "string", ("B'1'", "B'0'")),
    TypeCase("c_varbit", "varbit", "string", ("B''", "B'1'", "B'0101010101010101010101'")),
    TypeCase("c_varbit_5", "varbit(5)", "string", ("B''", "B'00110'")),
)

TIMES = (
    TypeCase("c_date", "date", "date",
        ("'2000-01-01'", "'0001-01-01'", "'9999-12-31'", "'1969-12-31'", "'2024-02-29'"),
        ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'4713-01-01 BC'", "'10000-01-01'", "'5874897-12-31'", "'0001-12-31 BC'")),
    TypeCase("c_time", "time", "time", ("'00:00'", "'23:59:59.999999'", "'12:34:56.5'", "'00:00:00.000001'"), ("'24:00'",)),
    TypeCase("c_time_3", "time(3)", "time", ("'00:00'", "'23:59:59.999'"), ("'23:59:59.9999'", "'24:00'"), note="rounding in PostgreSQL may give 24:00"),
    TypeCase("c_timetz", "timetz", "string", ("'24:00:00+00'", "'12:00:00-07'", "'00:00:00+15:59:59'", "'23:59:59.999999-15:59:59'")),
    TypeCase("c_timestamp", "timestamp", "timestamp",
        ("'2000-01-01'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.1'", "'1970-01-01'"),
        ("'infinity'", "'-infinity'", "'0044-03-15 01:02:03 BC'", "'294276-12-31 23:59:59.999999'", "'10000-01-01 00:00:00.5'", "'4714-11-24 00:00:00 BC'", "'0001-12-31 23:59:59.999999 BC'")),
    TypeCase("c_timestamp_0", "timestamp(0)", "timestamp", ("'2000-01-01 00:00:00.4'", "'1999-12-31 23:59:59.6'"), ("'9999-12-31 23:59:59.6'", "'infinity'")),
    TypeCase("c_timestamptz", "timestamptz", "timestamptz",
        ("'2000-01-01 00:00+00'", "'2026-03-29 02:30+02'", "'9999-12-31 23:59:59.999999+00'", "'0001-01-01 00:00+00'", "'1969-12-31 23:59:59.999999+00'", "'2000-01-01 00:00+15:59'"),
        ("'infinity'", "'-infinity'", "'4713-01-01 00:00+00 BC'", "'294276-12-31 00:00+00'", "'0001-01-01 00:00+01'", "'9999-12-31 23:59-01'"),
        note="in UTC"),
    TypeCase("c_interval", "interval", "string",
        ("'0'", "'1 year -2 days 03:04:05.6'", "'-178000000 years'", "'178000000 years'", "'1.5 months -1 us'", "'-00:00:00.000001'", "'P1Y2M3DT4H5M6.7S'"),
        note="in the style `postgres`, whatever the session's `IntervalStyle`"),
    TypeCase("c_interval_fields", "interval year to month", "string", ("'0'", "'-1 year -2 months'")),
)

NETWORK_AND_SHAPES = (
    TypeCase("c_inet", "inet", "string", ("'10.0.0.1'", "'::1/64'", "'10.0.0.1/0'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'", "'::ffff:1.2.3.4'")),
    TypeCase("c_cidr", "cidr", "string", ("'10.0.0.0/8'", "'0.0.0.0/0'", "'::1'", "'2001:db8::/32'")),
    TypeCase("c_macaddr", "macaddr", "string", (_MAC, "'00-00-00-00-00-00'", "'ffff.ffff.ffff'")),
    TypeCase("c_macaddr8", "macaddr8", "string", ("'08:00:2b:01:02:03:04:05'", _MAC)),
    TypeCase("c_point", "point", "string", ("'(1.5,-2)'", "'(NaN,Infinity)'", "'(-0,0.1)'", "'(1e-300,1e300)'")),
    TypeCase("c_line", "line", "string", ("'{1,2,3}'", "'[(0,0),(1,1)]'")),
    TypeCase("c_lseg", "lseg", "string", ("'[(1,2),(3,4.5)]'", "'[(0,0),(0,0)]'")),
    TypeCase("c_box", "box", "string", ("'(0,0),(2,1)'", "'(1,1),(1,1)'")),
    TypeCase("c_path", "path", "string", ("'[(0,0),(1,1),(2,0)]'", "'((0,0),(1,1),(2,0))'")),
    TypeCase("c_polygon", "polygon", "string", ("'((0,0),(1,1),(2,0))'", "'((0.1,0))'")),
    TypeCase("c_circle", "circle", "string", ("'<(1,2),3.5>'", "'<(0,0),0>'")),
)

RANGES = (
    TypeCase("c_int4range", "int4range", "string", ("'empty'", "'[1,5)'", "'(,)'", "'[1,1]'", "'(,5]'")),
    TypeCase("c_int8range", "int8range", "string", ("'empty'", "'[-9223372036854775808,9223372036854775806]'")),
    TypeCase("c_numrange", "numrange", "string", ("'empty'", "'[1.50,2.5)'", "'(-Infinity,Infinity)'", "'[,1e-30]'")),
    TypeCase("c_tsrange", "tsrange", "string", ("'empty'", "'[2000-01-01,infinity)'", "'[4000-01-01 BC,2000-01-01 12:00]'", "'(,)'")),
    TypeCase("c_tstzrange", "tstzrange", "string", ("'empty'", "'[2000-01-01 00:00+02,)'", "'[-infinity,infinity]'")),
    TypeCase("c_daterange", "daterange", "string", ("'empty'", "'[2000-01-01,2000-12-31]'", "'[2000-01-01,infinity]'")),
    TypeCase("c_int4multirange", "int4multirange", "string", ("'{}'", "'{[1,5),[7,9)}'", "'{(,)}'")),
    TypeCase("c_int8multirange", "int8multirange", "string", ("'{}'", "'{[1,5),[7,9)}'")),
    TypeCase("c_nummultirange", "nummultirange", "string", ("'{}'", "'{(,1.5],[2.50,)}'")),
    TypeCase("c_tsmultirange", "tsmultirange", "string", ("'{}'", "'{[2000-01-01,2000-01-02),[2001-01-01,infinity)}'")),
    TypeCase("c_tstzmultirange", "tstzmultirange", "string", ("'{}'", "'{[2000-01-01 00:00+02,)}'")),
    TypeCase("c_datemultirange", "datemultirange", "string", ("'{}'", "'{[2000-01-01,2000-01-02),[2001-01-01,)}'")),
)

NAMES_OF_OBJECTS = "names an object as it is called when the row is written"
SYSTEM = (
    TypeCase("c_oid", "oid", "string", ("4294967295", "0")),
    TypeCase("c_regclass", "regclass", "string", ("'pg_class'", "'pair'", "0", "'pg_toast.pg_toast_2619'", "4294967295"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regproc", "regproc", "string", ("'now'", "0", "'pg_catalog.int4in'"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regprocedure", "regprocedure", "string", ("'now()'", "'sum(int4)'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regoper", "regoper", "string", ("'pg_catalog.||/'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regoperator", "regoperator", "string", ("'+(integer,integer)'", "'-(NONE,integer)'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regtype", "regtype", "string", ("'integer'", "'mood'", "'text[]'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regrole", "regrole", "string", ("10", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regnamespace", "regnamespace", "string", ("'public'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regconfig", "regconfig", "string", ("'english'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regdictionary", "regdictionary", "string", ("'simple'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_regcollation", "regcollation", "string", ("'\"C\"'", "0"), note=NAMES_OF_OBJECTS),
    TypeCase("c_pg_lsn", "pg_lsn", "string", ("'0/0'", "'FFFFFFFF/FFFFFFFF'", "'16/B374D848'")),
    TypeCase("c_xid", "xid", "string", ("'0'", "'4294967295'")),
    TypeCase("c_xid8", "xid8", "string", ("'0'", "'18446744073709551615'")),
    TypeCase("c_cid", "cid", "string", ("'0'", "'4294967295'")),
    TypeCase("c_tid", "tid", "string", ("'(0,1)'", "'(4294967295,65535)'")),
    TypeCase("c_txid_snapshot", "txid_snapshot", "string", ("'10:20:10,14,15'", "'1:1:'")),
    TypeCase("c_pg_snapshot", "pg_snapshot", "string", ("'10:20:10,14,15'", "'1:1:'")),
    TypeCase("c_refcursor", "refcursor", "string", ("'a cursor'", "''")),
    TypeCase("c_int2vector", "int2vector", "string", ("'1 2 -3'", "''")),
    TypeCase("c_oidvector", "oidvector", "string", ("'1 2 4294967295'", "''")),
    TypeCase("c_aclitem", "aclitem", "string", ("makeaclitem(10, 10, 'SELECT', true)",), note=NAMES_OF_OBJECTS),
)

MADE = (
    TypeCase("c_enum", "mood", "string", ("'sad'", "'very happy'", "'ž''\"'")),
    TypeCase("c_domain", "positive", "int", ("1", "2147483647"), note="as its base"),
    TypeCase("c_domain_domain", "small_positive", "int", ("1", "99"), note="as the base of its base"),
    TypeCase("c_domain_numeric", "price", "decimal(8, 2)", ("0.00", "999999.99"), ("'NaN'",), note="as its base"),
    TypeCase("c_scores", "scores", "list<int>", ("'{}'", "'{1,NULL,3}'"), ("'[0:1]={1,2}'",), note="as its base"),
    TypeCase("c_domain_pair", "known_pair", "string", ("ROW(1, 'a')::known_pair",), note="as its base"),
    TypeCase("c_pair", "pair", "string", ("ROW(1, 'a,b\"')::pair", "ROW(NULL, NULL)::pair", "ROW(-1, '')::pair", r"ROW(1, E'\\ \n (x)')::pair")),
    TypeCase("c_nested", "nested", "string", ("ROW(ROW(1, 'x y')::pair, ARRAY[1.50, NULL], 'infinity', ARRAY[ROW(2, NULL)::pair])::nested", "ROW(NULL, NULL, NULL, NULL)::nested")),
    TypeCase("c_floatrange", "floatrange", "string", ("'empty'", "'[-Infinity,0.1)'", "'[1.5,)'")),
    TypeCase("c_floatmultirange", "floatmultirange", "string", ("'{}'", "'{[1.5,2),[3,)}'")),
    TypeCase("c_words", "text[]", "list<string>",
        ("'{}'", "ARRAY['', 'a,b', 'q\"q', E'b\\\\s', NULL, 'NULL', '{x}', ' sp ']", "'{plain,NULL}'", "ARRAY[E'\\n', E'\\t\\r', '€']"),
        ("ARRAY[['a'],['b']]",)),
    TypeCase("c_opaque", "opaque_text", "string", ("'[1,2,3]'", "''"), note="a base type that only its own functions know"),
)

EXTENSIONS = (
    TypeCase("c_hstore", "hstore", "string", ("''", "'a=>1, \"b c\"=>NULL, \"\"=>\"x\\\"y\"'"), needs="hstore"),
    TypeCase("c_citext", "citext", "string", ("''", "'MiXed €'", "'NULL'"), needs="citext"),
    TypeCase("c_ltree", "ltree", "string", ("''", "'Top.Science.Astronomy'"), needs="ltree"),
    TypeCase("c_lquery", "lquery", "string", ("'*.Astro*@.*{1,2}'",), needs="ltree"),
    TypeCase("c_cube", "cube", "string", ("'(1,2.5),(3,4)'", "'(0)'"), needs="cube"),
    TypeCase("c_seg", "seg", "string", ("'1.5 .. 2'", "'~6.50'"), needs="seg"),
    TypeCase("c_isbn", "isbn13", "string", ("'978-0-393-04002-9'",), needs="isn"),
    TypeCase("c_lo", "lo", "string", ("0", "4294967295"), needs="lo", note="as its base, oid"),
    TypeCase("c_vector", "vector(3)", "string", ("'[1,2.5,-3e10]'", "'[0,0,0]'"), needs="vector", note="pgvector"),
    TypeCase("c_halfvec", "halfvec(2)", "string", ("'[1,0.5]'",), needs="vector", note="pgvector"),
    TypeCase("c_sparsevec", "sparsevec(5)", "string", ("'{1:1.5,3:2}/5'", "'{}/5'"), needs="vector", note="pgvector"),
)

SCALARS = (*NUMBERS, *TEXTS, *TIMES, *NETWORK_AND_SHAPES, *RANGES, *SYSTEM, *MADE, *EXTENSIONS)
# fmt: on

UNFILLABLE = frozenset(
    {
        "gtsvector",
        "pg_node_tree",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
    }
)
"""Built-in types of which nobody can write a value: their input functions always fail."""

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'very happy', 'ž''"');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
CREATE DOMAIN price AS numeric(8,2);
CREATE DOMAIN scores AS integer[];
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN known_pair AS pair CHECK ((VALUE).a > 0);
CREATE TYPE nested AS (one pair, prices numeric(6,2)[], until date, more pair[]);
CREATE TYPE floatrange AS RANGE (subtype = float8, multirange_type_name = floatmultirange);
CREATE TYPE opaque_text;
CREATE FUNCTION opaque_in(cstring) RETURNS opaque_text LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION opaque_out(opaque_text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE opaque_text (INPUT = opaque_in, OUTPUT = opaque_out, LIKE = text);
"""
"""A superuser's: of a base type made of internal functions only the name is known to anybody else."""
