//! [`Connection`]: the iSCSI paths to one volume, parsed from connection properties.
//!
//! The keys are those of Cinder's `connection_info.data` for iSCSI (os-brick's `connection_properties`). With the
//! `external` storage interface, operators write the same keys into a volume target by hand, so one parser serves
//! both. The parser is strict: an invalid value is an error with the key's name, never a guess. Cinder's drivers take
//! some liberties, and are read as os-brick reads them: see [`Connection::from_cinder`].

use serde_json::{Map, Value};

use super::{AddressingMode, Chap, Lun, Portal, Properties, PropertyError, SanUri, TargetName};

/// The most paths of one volume: a longer list describes no real volume.
const MAX_PATHS: usize = 32;

/// The paths to one volume, and their common credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// At least one path, in the order of the properties.
    pub paths: Vec<SanUri>,
    /// The target's CHAP credentials, if any.
    pub chap: Option<Chap>,
}

/// The key of a list with one entry per portal, and the key of a single value.
#[derive(Debug, Clone, Copy)]
struct PathKeys {
    plural: &'static str,
    singular: &'static str,
}

const PORTALS: PathKeys = PathKeys { plural: "target_portals", singular: "target_portal" };
const TARGETS: PathKeys = PathKeys { plural: "target_iqns", singular: "target_iqn" };
const LUNS: PathKeys = PathKeys { plural: "target_luns", singular: "target_lun" };

/// The writer of connection properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PropertyWriter {
    Operator,
    Cinder,
}

impl Connection {
    /// Reads the properties of a volume target, as an operator wrote them.
    pub fn from_record(properties: &Properties) -> Result<Self, PropertyError> {
        Self::read(properties, PropertyWriter::Operator)
    }

    /// Reads the `connection_info` of Cinder as os-brick does (`_get_all_targets`), for the drivers that differ from
    /// Cinder's documentation:
    ///
    /// * An IPv6 portal without brackets ends in its port (Storwize, InStorage, Dell SC).
    /// * A missing LUN is LUN 0 (Synology with a single address).
    /// * Of lists with different lengths, the first entries form paths (QNAP, Tatlin).
    pub fn from_cinder(properties: &Properties) -> Result<Self, PropertyError> {
        Self::read(properties, PropertyWriter::Cinder)
    }

    /// Reads the plural keys if present, else the singular ones. `target_iqns` and `target_luns` have one entry per
    /// portal; without them, all portals share the singular value.
    fn read(properties: &Properties, writer: PropertyWriter) -> Result<Self, PropertyError> {
        let parse_portal = |text: &str| match writer {
            PropertyWriter::Operator => text.parse(),
            PropertyWriter::Cinder => Portal::parse_host_port(text),
        };
        let mode = read_addressing_mode(properties)?;
        let parse_lun = |text: &str| text.parse::<Lun>().and_then(|lun| lun.encode(mode));
        let default_lun = match writer {
            PropertyWriter::Operator => None,
            PropertyWriter::Cinder => Some(Value::from(0)),
        };
        let portals = read_list(properties, PORTALS, None, parse_portal)?;
        let targets = read_list(properties, TARGETS, None, str::parse::<TargetName>)?;
        let luns = read_list(properties, LUNS, default_lun.as_ref(), parse_lun)?;
        for (entries, keys) in [(targets.len(), TARGETS), (luns.len(), LUNS)] {
            if writer == PropertyWriter::Operator && entries != 1 && entries != portals.len() {
                let fault = format!("{entries} entries for {} portals", portals.len());
                return Err(PropertyError::new(keys.plural, fault));
            }
        }
        let paths = portals.into_iter().zip(repeat_single(targets)).zip(repeat_single(luns));
        let paths = paths.map(|((portal, target), lun)| SanUri { portal, lun, target }).collect();
        Ok(Self { paths, chap: Chap::read(properties)? })
    }
}

impl SanUri {
    /// The connection properties of this single path, without credentials.
    pub fn properties(&self) -> Map<String, Value> {
        Map::from_iter([
            ("target_portal".to_owned(), self.portal.to_string().into()),
            ("target_iqn".to_owned(), self.target.as_str().into()),
            ("target_lun".to_owned(), self.lun.number().into()),
        ])
    }
}

/// Reads the list under the plural key, or else the single value or its default as a list with one entry.
fn read_list<T, E: ToString>(
    properties: &Properties,
    PathKeys { plural, singular }: PathKeys,
    default: Option<&Value>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, PropertyError> {
    match properties.get(plural) {
        Some(Value::Array(items)) if items.is_empty() => Err(PropertyError::new(plural, "the list is empty")),
        Some(Value::Array(items)) if items.len() > MAX_PATHS => {
            Err(PropertyError::new(plural, format!("more than {MAX_PATHS} entries")))
        }
        Some(Value::Array(items)) => items.iter().map(|item| parse_scalar(plural, item, &parse)).collect(),
        Some(_) => Err(PropertyError::new(plural, "expected a list")),
        None => match properties.get(singular).or(default) {
            Some(value) => Ok(vec![parse_scalar(singular, value, &parse)?]),
            None => Err(PropertyError::new(singular, "missing")),
        },
    }
}

/// Parses a text or a number: the CLI of Ironic's client turns `target_lun=1` into a number, scripts quote the value.
fn parse_scalar<T, E: ToString>(
    key: &'static str,
    value: &Value,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, PropertyError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(PropertyError::new(key, "expected a text or a number")),
    };
    parse(text.trim()).map_err(|error| PropertyError::new(key, error))
}

/// The entries of a list; a single entry is repeated for all portals.
fn repeat_single<T: Clone>(values: Vec<T>) -> impl Iterator<Item = T> {
    let limit = if values.len() == 1 { usize::MAX } else { values.len() };
    values.into_iter().cycle().take(limit)
}

/// Reads the form in which the target expects its LUNs. os-brick converts by the same key.
fn read_addressing_mode(properties: &Properties) -> Result<AddressingMode, PropertyError> {
    const KEY: &str = "addressing_mode";
    match properties.get(KEY) {
        None => Ok(AddressingMode::default()),
        Some(Value::String(text)) => text.parse().map_err(|error| PropertyError::new(KEY, error)),
        Some(_) => Err(PropertyError::new(KEY, "expected a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Connection, PropertyError> {
        Connection::from_record(&serde_json::from_value::<Properties>(value).expect("an object"))
    }

    fn parse_from_cinder(value: Value) -> Result<Connection, PropertyError> {
        Connection::from_cinder(&serde_json::from_value::<Properties>(value).expect("an object"))
    }

    fn paths(value: Value) -> Vec<String> {
        format_paths(&parse(value).expect("a connection"))
    }

    fn format_paths(connection: &Connection) -> Vec<String> {
        connection.paths.iter().map(ToString::to_string).collect()
    }

    fn with_properties(extra: Value) -> Value {
        let mut all = json!({"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:a", "target_lun": 1});
        for (key, value) in extra.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all
    }

    #[test]
    fn parses_a_single_path() {
        assert_eq!(
            paths(with_properties(json!({}))),
            ["iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a"]
        );
        assert_eq!(
            paths(with_properties(json!({"target_lun": "10"}))),
            ["iscsi:192.0.2.1::3260:a:iqn.2010-10.org.openstack:a"]
        );
    }

    #[test]
    fn parses_several_paths_with_separate_names_and_luns() {
        let properties = with_properties(json!({
            "target_portals": ["192.0.2.1:3260", "[2001:db8::1]:3260"],
            "target_iqns": ["iqn.2010-10.org.openstack:a", "iqn.2010-10.org.openstack:b"],
            "target_luns": [1, 2],
        }));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:[2001:db8::1]::3260:2:iqn.2010-10.org.openstack:b",
        ];
        assert_eq!(paths(properties), expected);
    }

    #[test]
    fn parses_several_paths_with_common_name_and_lun() {
        let properties = with_properties(json!({"target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"]}));
        let expected = [
            "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:a",
            "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.openstack:a",
        ];
        assert_eq!(paths(properties), expected);
    }

    #[test]
    fn luns_are_sent_in_the_addressing_mode_of_the_target() {
        for (mode, luns, expected) in [
            (json!(null), [255, 256], ["ff", "100"]),
            (json!("SAM"), [255, 256], ["ff", "100"]),
            (json!("transparent"), [255, 256], ["ff", "100"]),
            (json!("SAM2"), [255, 256], ["ff", "4100"]),
            (json!("SAM3-flat"), [255, 256], ["40ff", "4100"]),
        ] {
            let properties = with_properties(json!({
                "target_portals": ["192.0.2.1", "192.0.2.2"], "target_luns": luns, "addressing_mode": mode,
            }));
            for connection in [parse(properties.clone()), parse_from_cinder(properties)] {
                let luns: Vec<_> =
                    connection.expect("a connection").paths.iter().map(|path| path.lun.to_string()).collect();
                assert_eq!(luns, expected, "{mode}");
            }
        }
    }

    #[test]
    fn cinder_s_liberties_are_errors_of_an_operator() {
        let two = json!(["192.0.2.1:3260", "192.0.2.2:3260"]);
        let name = "iqn.2010-10.org.openstack:a";
        for (properties, key, expected) in [
            (json!({"target_portal": "fd03::546c:3260"}), "target_portal", "iscsi:[fd03::546c]::3260:1"),
            (json!({"target_portals": ["fd03::546c:3260"]}), "target_portals", "iscsi:[fd03::546c]::3260:1"),
            (json!({"target_lun": null}), "target_lun", "iscsi:192.0.2.1::3260:0"),
            (
                json!({"target_lun": null, "addressing_mode": "SAM3-flat"}),
                "target_lun",
                "iscsi:192.0.2.1::3260:4000",
            ),
            (json!({"target_luns": [2, 3]}), "target_luns", "iscsi:192.0.2.1::3260:2"),
            (
                json!({"target_portals": two, "target_luns": [4, 5, 6]}),
                "target_luns",
                "iscsi:192.0.2.1::3260:4",
            ),
        ] {
            let properties = with_properties(properties);
            let connection = parse_from_cinder(properties.clone()).expect("a connection");
            assert_eq!(format_paths(&connection)[0], format!("{expected}:{name}"));
            assert_eq!(parse(properties).expect_err("an error").key, key);
        }
        let three = json!({"target_portals": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "target_luns": [1, 2]});
        assert_eq!(parse_from_cinder(with_properties(three)).expect("a connection").paths.len(), 2);
    }

    #[test]
    fn an_error_names_its_key() {
        for (properties, key) in [
            (json!({"target_portal": null}), "target_portal"),
            (json!({"target_portal": "nowhere:"}), "target_portal"),
            (json!({"target_iqn": "disk 1"}), "target_iqn"),
            (json!({"target_iqn": null}), "target_iqn"),
            (json!({"target_iqn": ""}), "target_iqn"),
            (json!({"target_iqn": "x".repeat(224)}), "target_iqn"),
            (json!({"target_portal": "fd03::546c:3260"}), "target_portal"),
            (json!({"addressing_mode": "SAM4"}), "addressing_mode"),
            (json!({"addressing_mode": 2}), "addressing_mode"),
            (json!({"addressing_mode": "SAM2", "target_lun": 16384}), "target_lun"),
            (json!({"target_lun": -1}), "target_lun"),
            (json!({"target_lun": 1.5}), "target_lun"),
            (json!({"target_lun": true}), "target_lun"),
            (json!({"target_portals": []}), "target_portals"),
            (json!({"target_portals": "192.0.2.1"}), "target_portals"),
            (json!({"target_portals": vec!["192.0.2.1"; 33]}), "target_portals"),
            (
                json!({"target_portals": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "target_luns": [1, 2]}),
                "target_luns",
            ),
            (json!({"target_iqns": ["iqn.2010-10.a:b", "iqn.2010-10.a:c"]}), "target_iqns"),
            (json!({"auth_method": "CHAP"}), "auth_username"),
        ] {
            assert_eq!(
                parse(with_properties(properties.clone())).expect_err("an error").key,
                key,
                "{properties}"
            );
        }
    }
}
