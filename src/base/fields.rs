//! Fields of a JSON object, asked for one by one. What serde derives to fill a structure is ten
//! times as much code; it is for what is read often. Pure. A field of another type is none.

use serde_json::Value;

pub fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::to_owned)
}

/// Those elements that are texts.
pub fn texts(object: &Value, key: &str) -> Vec<String> {
    let all = object.get(key).and_then(Value::as_array);
    let texts = all.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

pub fn number<N: TryFrom<u64>>(object: &Value, key: &str) -> Option<N> {
    N::try_from(object.get(key)?.as_u64()?).ok()
}

pub fn is_on(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}
