//! Data models that lie in files and objects. What a request has beside its known members is passed over,
//! as Amazon's services do; in a file it is a name that was misspelt, whose mapping would be missed.

use serde_json::Value;

use super::model::DataModel;
use crate::protocol::timestream::coral::Quoted;
use crate::protocol::timestream::object::Object;

/// What some editors write in front of a file. It means nothing, and JSON has no place for it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The members of an object, and the objects in them.
struct Shape {
    plain: &'static [&'static str],
    nested: &'static [(&'static str, &'static Shape)],
}

const ATTRIBUTE: Shape = Shape {
    plain: &["SourceColumn", "TargetMultiMeasureAttributeName", "MeasureValueType"],
    nested: &[],
};
const DIMENSION: Shape = Shape { plain: &["SourceColumn", "DestinationColumn"], nested: &[] };
const MULTI: Shape = Shape {
    plain: &["TargetMultiMeasureName"],
    nested: &[("MultiMeasureAttributeMappings", &ATTRIBUTE)],
};
const MIXED: Shape = Shape {
    plain: &["MeasureName", "SourceColumn", "TargetMeasureName", "MeasureValueType"],
    nested: &[("MultiMeasureAttributeMappings", &ATTRIBUTE)],
};
const MODEL: Shape = Shape {
    plain: &["TimeColumn", "TimeUnit", "MeasureNameColumn"],
    nested: &[
        ("DimensionMappings", &DIMENSION),
        ("MultiMeasureMappings", &MULTI),
        ("MixedMeasureMappings", &MIXED),
    ],
};

impl DataModel {
    /// Reads a model out of a file. What its mappings say is [`Self::check`]'s to judge.
    ///
    /// # Errors
    ///
    /// What is wrong, and where: it is no JSON of this form, or has a member that no model has.
    pub fn from_file(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let read: Result<Object<Self>, _> = serde_json::from_slice(bytes);
        let Object(model) = read.map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        MODEL.check(&value, "")?;
        Ok(model)
    }
}

impl Shape {
    fn check(&self, value: &Value, at: &str) -> Result<(), String> {
        let Some(members) = value.as_object() else { return Ok(()) };
        for (name, value) in members {
            if self.plain.contains(&name.as_str()) {
                continue;
            }
            let Some((_, shape)) = self.nested.iter().find(|(nested, _)| nested == name) else {
                return Err(self.unknown(name, at));
            };
            match value {
                Value::Array(items) => (1_usize..).zip(items).try_for_each(|(index, item)| {
                    shape.check(item, &format!("{at}{name}.{index}."))
                })?,
                value => shape.check(value, &format!("{at}{name}."))?,
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str, at: &str) -> String {
        let nested = self.nested.iter().map(|(name, _)| *name);
        let known: Vec<&str> = self.plain.iter().copied().chain(nested).collect();
        format!("unknown key '{at}{}': known there are {}", Quoted(name), known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_no_model_has_is_refused_by_its_name_and_a_mark_is_passed_over() {
        let good = r#"{"TimeColumn":"t","MeasureNameColumn":null,"DimensionMappings":[{"SourceColumn":"h"}]}"#;
        let model = DataModel::from_file(good.as_bytes()).unwrap();
        assert_eq!(model.time_column.as_deref(), Some("t"));
        assert_eq!(DataModel::from_file(format!("\u{feff}{good}").as_bytes()), Ok(model));
        for (text, told) in [
            (
                r#"{"TimeColum":"t"}"#,
                "unknown key 'TimeColum': known there are TimeColumn, TimeUnit",
            ),
            (r#"{"DataModel":{}}"#, "unknown key 'DataModel'"),
            (
                r#"{"DimensionMappings":[{},{"sourceColumn":"h"}]}"#,
                "unknown key 'DimensionMappings.2.sourceColumn': known there are SourceColumn, DestinationColumn",
            ),
            (
                r#"{"MultiMeasureMappings":{"MultiMeasureAttributeMappings":[{"Type":"x"}]}}"#,
                "unknown key 'MultiMeasureMappings.MultiMeasureAttributeMappings.1.Type'",
            ),
            (
                r#"{"MixedMeasureMappings":[{"Name":"x"}]}"#,
                "unknown key 'MixedMeasureMappings.1.Name'",
            ),
            ("[]", "invalid type"),
            ("{", "EOF while parsing"),
        ] {
            let found = DataModel::from_file(text.as_bytes()).unwrap_err();
            assert!(found.starts_with(told), "{text}: {found}");
        }
    }
}
