//! [`Query`]: the query arguments of a URL, each validated on access.

use std::fmt;

use form_urlencoded::Serializer;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::fault::Fault;
use super::field;

/// The arguments in their original order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query (application/x-www-form-urlencoded).
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        // The parser would replace invalid UTF-8.
        if percent_decode_str(text).decode_utf8().is_err() {
            return Err(Fault::Invalid("Malformed request URI.".into()));
        }
        Ok(Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    /// Rejects arguments outside `known`.
    pub(super) fn reject_unknown(&self, allowed: &[&str]) -> Result<(), Fault> {
        let mut unknown: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        unknown.retain(|name| !allowed.contains(name));
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Fault::Invalid(format!("Unexpected arguments: {}", unknown.join(", "))))
    }

    /// Whether an argument is present.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The value of an argument that may occur once.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Fault::Invalid(format!("Expected string for {name}: the argument is repeated"))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.text(name)?.map(|text| field::parse_flag(name, text)).transpose()
    }

    pub(super) fn uuid(&self, name: &str) -> Result<Option<Uuid>, Fault> {
        self.text(name)?.map(|text| field::parse_uuid(name, text)).transpose()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = text.trim();
        match digits.parse() {
            Ok(number) => Ok(Some(number)),
            // Out of range for `i64`, but still a number: saturate.
            Err(_) if is_number(digits) => {
                Ok(Some(if digits.starts_with('-') { i64::MIN } else { i64::MAX }))
            }
            Err(_) => Err(Fault::Invalid(format!("Expected an integer for {name}: {text}"))),
        }
    }

    /// A list of names, comma-separated or from repeated arguments: in lower case, without duplicates.
    pub(super) fn names(&self, name: &str) -> Option<Vec<String>> {
        let key = || self.0.iter().filter(|(key, _)| key == name);
        key().next()?;
        let mut names: Vec<String> = Vec::new();
        for item in key().flat_map(|(_, value)| value.split(',')) {
            let item = item.trim().to_lowercase();
            if !item.is_empty() && !names.contains(&item) {
                names.push(item);
            }
        }
        Some(names)
    }

    /// Builds the query of the next page: the same arguments with the new marker.
    pub(super) fn next_page(&self, sort: &[(&str, &str)], limit: usize, marker: impl fmt::Display) -> String {
        let replaced =
            |name: &str| name == "limit" || name == "marker" || sort.iter().any(|(key, _)| *key == name);
        let others = self.0.iter().filter(|(name, _)| !replaced(name)).map(|(n, v)| (n.as_str(), v.as_str()));
        let (limit, marker) = (limit.to_string(), marker.to_string());
        let position = [("limit", limit.as_str()), ("marker", marker.as_str())];
        let pairs = sort.iter().copied().chain(others).chain(position);
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        // Ironic does not encode the commas of `fields`.
        query.replace("%2C", ",")
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).expect("a query")
    }

    #[test]
    fn arguments_are_decoded_and_typed() {
        let key = query("a=1&name=a%20b+c&flag=Yes&fields=UUID,name&fields=name, extra&uuid=");
        assert_eq!(key.integer("a"), Ok(Some(1)));
        assert_eq!(key.text("name"), Ok(Some("a b c")));
        assert_eq!(key.flag("flag"), Ok(Some(true)));
        assert_eq!(key.names("fields"), Some(vec!["uuid".into(), "name".into(), "extra".into()]));
        assert_eq!(key.uuid("uuid"), Err(Fault::Invalid("Expected UUID for uuid: ".into())));
        assert_eq!(key.uuid("none"), Ok(None));
        assert_eq!(key.names("none"), None);
    }

    #[test]
    fn invalid_arguments_are_rejected_by_name() {
        assert!(query("a=1&a=2").text("a").is_err());
        assert!(query("a=1.5").integer("a").is_err());
        assert_eq!(query("a=99999999999999999999").integer("a"), Ok(Some(i64::MAX)));
        assert!(query("a=maybe").flag("a").is_err());
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse("a=%ef%bf%bd").is_ok(), "U+FFFD itself is valid");
        assert_eq!(
            query("limit=1&x=1&y=2").reject_unknown(&["limit"]),
            Err(Fault::Invalid("Unexpected arguments: x, y".into()))
        );
    }

    #[test]
    fn the_next_page_keeps_filters_and_order() {
        let next = query("marker=old&driver=a%26b&limit=5&sort_dir=desc&fields=uuid,name").next_page(
            &[("sort_key", "id"), ("sort_dir", "desc")],
            7,
            Uuid::from_u128(1),
        );
        assert_eq!(
            next,
            "sort_key=id&sort_dir=desc&driver=a%26b&fields=uuid,name&limit=7\
             &marker=00000000-0000-0000-0000-000000000001"
        );
    }
}
