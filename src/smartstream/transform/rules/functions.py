"""The functions that expressions may call: those that give a value of their arguments and nothing else.

A list of what is allowed, not of what is forbidden: DuckDB calls some functions constant
that are not (``current_localtime``, ``age`` of one argument), and later versions will
have functions that nobody has looked at.
"""

from __future__ import annotations

from smartstream.transform.rules.engine import Function, functions

_NUMBERS = """
abs acos acosh asin asinh atan atan2 atanh bit_count cbrt ceil ceiling cos cosh cot degrees even exp
factorial fdiv floor fmod gamma gcd greatest greatest_common_divisor isfinite isinf isnan lcm least
least_common_multiple lgamma ln log log10 log2 mod nextafter pi pow power radians round round_even
roundbankers sign signbit sin sinh sqrt tan tanh trunc xor add subtract multiply divide
"""
_TEXTS = """
array_to_string ascii bar base64 bin char_length character_length chr concat concat_ws contains
damerau_levenshtein decode editdist3 encode ends_with format format_bytes from_base64 from_binary from_hex
hamming hex ilike_escape instr jaccard jaro_similarity jaro_winkler_similarity lcase left left_grapheme
length length_grapheme levenshtein like_escape lower lpad ltrim md5 mismatches nfc_normalize
not_ilike_escape not_like_escape octet_length ord overlay parse_dirname parse_dirpath parse_filename
parse_path path_join position prefix printf regexp_escape regexp_extract regexp_extract_all
regexp_full_match regexp_matches regexp_replace regexp_split_to_array repeat replace reverse right
right_grapheme rpad rtrim sha1 sha256 split split_part starts_with str_split str_split_regex string_split
string_split_regex string_to_array strip_accents strlen strpos substr substring substring_grapheme suffix
to_base to_base64 to_binary to_hex translate trim ucase unbin unhex unicode upper url_decode url_encode
"""
_TIMES = """
century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname
dayofmonth dayofweek dayofyear days_in_month decade epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear
julian last_day make_date make_time make_timestamp make_timestamptz microsecond millennium millisecond
minute month monthname quarter second strftime strptime time_bucket timezone to_days to_hours
to_microseconds to_milliseconds to_minutes to_months to_quarters to_seconds to_timestamp to_weeks to_years
try_strptime week weekday weekofyear year yearweek
"""
_LISTS = """
array_append array_cat array_concat array_contains array_distinct array_extract array_filter array_has
array_has_all array_has_any array_indexof array_intersect array_length array_position array_prepend
array_reverse array_reverse_sort array_slice array_sort array_transform array_unique array_value
cardinality element_at flatten len list_aggregate list_any_value list_append list_apply list_avg
list_bool_and list_bool_or list_cat list_concat list_contains list_count list_distinct list_element
list_extract list_filter list_first list_has list_has_all list_has_any list_indexof list_intersect list_last
list_max list_median list_min list_pack list_position list_prepend list_product list_reduce list_reverse
list_reverse_sort list_select list_slice list_sort list_string_agg list_sum list_transform list_unique
list_value list_where list_zip map map_contains map_entries map_extract map_extract_value map_from_entries
map_keys map_values row struct_extract struct_pack struct_insert struct_values
"""
_JSON = """
array_to_json from_json from_json_strict json json_array json_array_length json_contains json_exists
json_extract json_extract_path json_extract_path_text json_extract_string json_keys json_merge_patch
json_object json_pretty json_quote json_structure json_transform json_transform_strict json_type json_valid
json_value row_to_json to_json
"""
_ANY = "if nullif typeof"

ALLOWED = frozenset(" ".join((_NUMBERS, _TEXTS, _TIMES, _LISTS, _JSON, _ANY)).split())


def problem(name: str) -> str | None:
    """Return why a function can't be called in an expression, None if it can.

    Args:
        name: in small letters; operators, too, are functions.
    """
    found = functions().get(name)
    if found is None:
        return f"there is no function {name}"
    if {one.kind for one in found} & {"aggregate", "window"}:
        return f"{name} is an aggregate, which looks at other rows"
    if not _is_constant(found):
        return f"{name} does not give the same value every time"
    is_operator = not any(sign.isalnum() for sign in name)
    if name not in ALLOWED and not is_operator:
        return f"{name} is not among the functions that rules may use; docs/transform.md lists them"
    return None


def _is_constant(found: list[Function]) -> bool:
    """Whether the value depends on the arguments only, as far as DuckDB says."""
    scalars = [one for one in found if one.kind == "scalar"]
    return all(one.stability == "CONSISTENT" for one in scalars)
