//! Flattens settings to the form `{"index.refresh_interval": "1s"}`, whichever form a server returns.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Values of settings as text, by flat name.
pub(super) type Values = BTreeMap<String, String>;

/// Reads settings that may be missing from a reply.
pub(super) fn read<'de, D: Deserializer<'de>>(reply: D) -> Result<Option<Values>, D::Error> {
    Ok(Option::<Value>::deserialize(reply)?.map(|settings| flatten(&settings)))
}

/// Flattens settings, nested or not, with numbers, booleans or texts.
pub(super) fn flatten(settings: &Value) -> Values {
    let mut values = Values::new();
    add(String::new(), settings, &mut values);
    values
}

fn add(name: String, value: &Value, values: &mut Values) {
    let text = match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                add(name, value, values);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        // None of the settings read here is a list, and null means the default.
        Value::Array(_) | Value::Null => return,
    };
    values.insert(name, text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_becomes_the_same() {
        let expected = [("index.blocks.write", "true"), ("index.number_of_replicas", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        for settings in [
            json!({"index.blocks.write": "true", "index.number_of_replicas": "2"}),
            json!({"index": {"blocks": {"write": true}, "number_of_replicas": 2, "sort": ["x"], "codec": null}}),
            json!({"index": {"blocks.write": "true", "number_of_replicas": "2"}}),
        ] {
            assert_eq!(flatten(&settings), Values::from(expected.clone()), "{settings}");
        }
        assert!(flatten(&Value::Null).is_empty());
    }
}
