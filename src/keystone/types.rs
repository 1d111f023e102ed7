//! The body of Keystone's token responses, reduced to what volboot needs.
//!
//! Clouds send odd bodies that keystoneauth accepts. A missing or odd field is therefore an error only where volboot
//! needs the field.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::catalogue::Catalogue;

/// A token without its secret.
pub(super) struct TokenBody {
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Option<Timestamp>,
    /// The user's id.
    pub(super) user: Option<String>,
    /// The names of the roles.
    pub(super) roles: Vec<String>,
    pub(super) project: Option<TokenProject>,
    /// Whether the scope is the whole cloud.
    pub(super) is_system: bool,
    pub(super) catalogue: Catalogue,
}

/// The project of a token.
pub(super) struct TokenProject {
    pub(super) id: String,
    pub(super) name: Option<String>,
    /// The domain's id.
    pub(super) domain: Option<String>,
}

impl TokenBody {
    /// Reads a response body. The error says what is wrong and quotes nothing, because the body may hold secrets.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "without a token")?;
        let token = body.get("token").filter(|token| token.is_object()).ok_or("without a token")?;
        let expires_at =
            read_time(&token["expires_at"]).ok_or("with a token whose expires_at is not a time")?;
        let roles = token["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
        let project = read_text(&token["project"]["id"]).map(|id| TokenProject {
            id,
            name: read_text(&token["project"]["name"]),
            domain: read_text(&token["project"]["domain"]["id"]),
        });
        Ok(Self {
            expires_at,
            issued_at: read_time(&token["issued_at"]),
            user: read_text(&token["user"]["id"]),
            roles: roles.iter().filter_map(|role| read_text(&role["name"])).collect(),
            project,
            is_system: token["system"]["all"] == true,
            catalogue: Catalogue::read(&token["catalog"]),
        })
    }
}

fn read_text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Reads a time of ISO 8601. As in keystoneauth, a time without a zone is UTC.
fn read_time(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    let in_utc = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse().ok().or_else(in_utc)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_in_each_form_of_iso_8601() {
        let expected: Timestamp = "2026-11-22T08:51:34Z".parse().expect("a time");
        for text in [
            "2026-11-22T08:51:34.000000Z",
            "2026-11-22T08:51:34Z",
            "2026-11-22T08:51:34",
            "2026-11-22T08:51:34.000000",
            "2026-11-22 08:51:34",
            "2026-11-22T10:51:34+02:00",
            "2026-11-22T08:51:34+0000",
        ] {
            assert_eq!(read_time(&json!(text)), Some(expected), "{text}");
        }
        for value in [json!(null), json!(1), json!(""), json!("soon"), json!("2026-13-01T00:00:00")] {
            assert_eq!(read_time(&value), None, "{value}");
        }
    }

    #[test]
    fn only_needed_fields_are_required() {
        let parse = |token: Value| TokenBody::parse(json!({ "token": token }).to_string().as_bytes());
        let odd = parse(json!({
            "expires_at": "2026-11-22T08:51:34", "issued_at": null, "user": null, "roles": [{"id": "1"}, null],
            "project": {"id": "p"}, "system": {}, "catalog": null,
        }));
        let odd = odd.unwrap_or_else(|defect| panic!("{defect}"));
        let project = odd.project.expect("a project");
        assert_eq!((project.id.as_str(), project.name, project.domain), ("p", None, None));
        assert!(odd.roles.is_empty() && odd.user.is_none() && !odd.is_system && odd.issued_at.is_none());
        for (token, defect) in [
            (json!(null), "without a token"),
            (json!([]), "without a token"),
            (json!({}), "with a token whose expires_at is not a time"),
            (json!({"expires_at": "later"}), "with a token whose expires_at is not a time"),
        ] {
            assert_eq!(parse(token).err(), Some(defect));
        }
    }
}
