//! [`Query`]: the arguments behind the `?` of a URL, each checked when it is asked for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use super::fault::Fault;
use super::field;

/// What may stand unescaped in a query (RFC 3986 §2.3, and the comma for lists).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',');

/// The arguments in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart (application/x-www-form-urlencoded).
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, Fault>>()?))
    }

    /// Refuses arguments that are not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let mut unknown: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        unknown.retain(|name| !known.contains(name));
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Fault::Invalid(format!("Unexpected arguments: {}", unknown.join(", "))))
    }

    /// Whether an argument is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// An argument that may be given once.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Fault::Invalid(format!("Expected string for {name}: it was given more than once"))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.text(name)?.map(|text| field::flag(name, text)).transpose()
    }

    pub(super) fn uuid(&self, name: &str) -> Result<Option<Uuid>, Fault> {
        self.text(name)?.map(|text| field::uuid(name, text)).transpose()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = text.trim();
        match digits.parse() {
            Ok(number) => Ok(Some(number)),
            // Longer than any number we need, but a number all the same.
            Err(_) if is_number(digits) => {
                Ok(Some(if digits.starts_with('-') { i64::MIN } else { i64::MAX }))
            }
            Err(_) => Err(Fault::Invalid(format!("Expected an integer for {name}: {text}"))),
        }
    }

    /// A list of names, joined by commas or given one by one: lower case, each once.
    pub(super) fn names(&self, name: &str) -> Option<Vec<String>> {
        let given = || self.0.iter().filter(|(given, _)| given == name);
        given().next()?;
        let mut names: Vec<String> = Vec::new();
        for item in given().flat_map(|(_, value)| value.split(',')) {
            let item = item.trim().to_lowercase();
            if !item.is_empty() && !names.contains(&item) {
                names.push(item);
            }
        }
        Some(names)
    }

    /// The same query for the next page: all that it asked for, and where to go on.
    pub(super) fn continued(&self, sort: &[(&str, &str)], limit: usize, marker: Uuid) -> String {
        let replaced =
            |name: &str| name == "limit" || name == "marker" || sort.iter().any(|(key, _)| *key == name);
        let kept = self.0.iter().filter(|(name, _)| !replaced(name)).map(|(n, v)| (n.as_str(), v.as_str()));
        let (limit, marker) = (limit.to_string(), marker.to_string());
        let ours = [("limit", limit.as_str()), ("marker", marker.as_str())];
        let pairs = sort.iter().copied().chain(kept).chain(ours);
        let pairs = pairs.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

fn decoded(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| Fault::Invalid("Malformed request URI.".into()))
}

/// A text as it may stand in a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(text).expect("a query")
    }

    #[test]
    fn arguments_are_decoded_and_typed() {
        let given = query("a=1&name=a%20b+c&flag=Yes&fields=UUID,name&fields=name, extra&uuid=");
        assert_eq!(given.integer("a"), Ok(Some(1)));
        assert_eq!(given.text("name"), Ok(Some("a b c")));
        assert_eq!(given.flag("flag"), Ok(Some(true)));
        assert_eq!(given.names("fields"), Some(vec!["uuid".into(), "name".into(), "extra".into()]));
        assert_eq!(given.uuid("uuid"), Err(Fault::Invalid("Expected UUID for uuid: ".into())));
        assert_eq!(given.uuid("none"), Ok(None));
        assert_eq!(given.names("none"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(query("a=1&a=2").text("a").is_err());
        assert!(query("a=1.5").integer("a").is_err());
        assert_eq!(query("a=99999999999999999999").integer("a"), Ok(Some(i64::MAX)));
        assert!(query("a=maybe").flag("a").is_err());
        assert!(Query::read("a=%ff").is_err());
        assert_eq!(
            query("limit=1&x=1&y=2").only(&["limit"]),
            Err(Fault::Invalid("Unexpected arguments: x, y".into()))
        );
    }

    #[test]
    fn the_next_page_keeps_what_was_asked_for() {
        let next = query("marker=old&driver=a%26b&limit=5&sort_dir=desc").continued(
            &[("sort_key", "id"), ("sort_dir", "desc")],
            7,
            Uuid::from_u128(1),
        );
        assert_eq!(
            next,
            "sort_key=id&sort_dir=desc&driver=a%26b&limit=7&marker=00000000-0000-0000-0000-000000000001"
        );
    }
}
