//! [`YamlNode`]: a YAML document without a schema, with each scalar as its text.
//!
//! An untyped parser takes a password such as `0123` or `1e5` for a number. Parsing therefore takes two passes: the first
//! finds the shape of the document, the second reads each scalar of the shape as text.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Options};

/// A node of a document. It has no `Debug`: scalars may be secrets.
pub(super) enum YamlNode {
    /// `null`, `~` or nothing.
    Null,
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<Self>),
    /// A mapping in the order of the file, where a later pair with the same key counts.
    Mapping(Vec<(String, Self)>),
}

impl YamlNode {
    /// Parses a document. The error has only the position: the parser's own message quotes lines of the file, which may
    /// hold secrets.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shape = serde_saphyr::from_str_with_options::<Option<ShapeOf>>(text, options());
        let node = shape.and_then(|shape| match shape {
            Some(ShapeOf(shape)) => {
                let read = |deserializer: serde_saphyr::Deserializer<'_, '_>| {
                    TextOfShape(&shape).deserialize(deserializer)
                };
                serde_saphyr::with_deserializer_from_str_with_options(text, options(), read)
            }
            None => Ok(Self::Null),
        });
        node.map_err(|error| match error.location() {
            Some(at) => format!("line {}, column {}", at.line(), at.column()),
            None => "the file cannot be parsed".into(),
        })
    }

    /// The kind of the node, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// The options of both passes. As in PyYAML, the last of duplicate keys counts.
fn options() -> Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        null_as_string: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// The first pass: a document whose scalars are all empty.
struct ShapeOf(YamlNode);

impl<'de> Deserialize<'de> for ShapeOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor).map(Self)
    }
}

struct ShapeVisitor;

/// The visits of a scalar, of whatever type.
macro_rules! visit_scalars {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(fn $name<E>(self, _: $type) -> Result<YamlNode, E> {
            Ok(YamlNode::Text(String::new()))
        })*
    };
}

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = YamlNode;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any node")
    }

    visit_scalars! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_bytes: &[u8],
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }

    fn visit_none<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlNode, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlNode, A::Error> {
        let mut list = Vec::new();
        while let Some(ShapeOf(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(YamlNode::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<YamlNode, A::Error> {
        let mut mapping = Vec::new();
        while let Some((key, ShapeOf(value))) = pairs.next_entry::<String, _>()? {
            mapping.push((key, value));
        }
        Ok(YamlNode::Mapping(mapping))
    }
}

/// The second pass: the document of a shape, with the text of its scalars.
struct TextOfShape<'a>(&'a YamlNode);

impl<'de> DeserializeSeed<'de> for TextOfShape<'_> {
    type Value = YamlNode;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlNode, D::Error> {
        match self.0 {
            YamlNode::Null => IgnoredAny::deserialize(deserializer).map(|_| YamlNode::Null),
            YamlNode::Text(_) => String::deserialize(deserializer).map(YamlNode::Text),
            YamlNode::List(_) => deserializer.deserialize_seq(self),
            YamlNode::Mapping(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for TextOfShape<'_> {
    type Value = YamlNode;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.kind())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlNode, A::Error> {
        let YamlNode::List(shapes) = self.0 else { return Err(not_the_shape()) };
        let mut list = Vec::new();
        for shape in shapes {
            list.push(items.next_element_seed(TextOfShape(shape))?.ok_or_else(not_the_shape)?);
        }
        // The end of a sequence is read like an element.
        items
            .next_element::<IgnoredAny>()?
            .is_none()
            .then_some(YamlNode::List(list))
            .ok_or_else(not_the_shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<YamlNode, A::Error> {
        let YamlNode::Mapping(shapes) = self.0 else { return Err(not_the_shape()) };
        let mut mapping = Vec::new();
        for (_, shape) in shapes {
            let key: String = pairs.next_key()?.ok_or_else(not_the_shape)?;
            mapping.push((key, pairs.next_value_seed(TextOfShape(shape))?));
        }
        let is_complete = pairs.next_key::<IgnoredAny>()?.is_none();
        is_complete.then_some(YamlNode::Mapping(mapping)).ok_or_else(not_the_shape)
    }
}

/// The two passes read the same text, so a difference is a defect of the parser.
fn not_the_shape<E: serde::de::Error>() -> E {
    E::custom("the document differs from its shape")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &YamlNode) -> String {
        match node {
            YamlNode::Null => "null".into(),
            YamlNode::Text(text) => format!("{text:?}"),
            YamlNode::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            YamlNode::Mapping(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(key, value)| format!("{key}: {}", show(value))).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        for (text, expected) in [
            ("a: 0123456", r#"{a: "0123456"}"#),
            ("a: 1e5", r#"{a: "1e5"}"#),
            ("a: 1_000", r#"{a: "1_000"}"#),
            ("a: 1.10", r#"{a: "1.10"}"#),
            ("a: yes", r#"{a: "yes"}"#),
            ("a: .nan", r#"{a: ".nan"}"#),
            ("a: 1e999", r#"{a: "1e999"}"#),
            ("a: 2026-01-02", r#"{a: "2026-01-02"}"#),
            (
                "a: 99999999999999999999999999999999999999999999",
                r#"{a: "99999999999999999999999999999999999999999999"}"#,
            ),
            ("a: 'null'", r#"{a: "null"}"#),
            ("a: ~\nb:\n1: x\nnull: y", r#"{a: null, b: null, 1: "x", null: "y"}"#),
            (
                "a: &x {b: 0x1F}\nc: *x\nd: {<<: *x, e: 1}",
                r#"{a: {b: "0x1F"}, c: {b: "0x1F"}, d: {e: "1", b: "0x1F"}}"#,
            ),
            ("a: {b: 1}\na: [2]", r#"{a: {b: "1"}, a: ["2"]}"#),
            ("{\"a\":\t{\"b\": [1, \"2\", null]}}", r#"{a: {b: ["1", "2", null]}}"#),
            ("a: !secret 12", r#"{a: "12"}"#),
            ("# nothing\n", "null"),
            ("", "null"),
        ] {
            let node = YamlNode::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(show(&node), expected, "{text}");
        }
    }

    #[test]
    fn errors_have_a_position_and_no_content() {
        for text in [
            "a: {b: secret",
            "a: [secret",
            "a: 'secret",
            "a: *secret",
            "secret: 1\n- 2",
            "---\na: 1\n---\nb: 2",
        ] {
            let Err(error) = YamlNode::parse(text) else { panic!("{text} is accepted") };
            assert!(error.starts_with("line ") && !error.contains("secret"), "{text}: {error}");
        }
    }
}
