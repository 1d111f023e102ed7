//! Messages of a BMC: `@Message.ExtendedInfo` of an error response (DSP0266 §8.6), cut to one line.

use serde_json::Value;

/// The longest text of a BMC that is kept, in characters.
const MAX_TEXT: usize = 200;
/// The most messages of one response that are read.
const MAX_MESSAGES: usize = 3;

/// The message of an error response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BmcMessage {
    /// The texts, joined.
    pub(super) text: String,
    /// The ids, such as `Base.1.8.ActionParameterValueConflict`, joined.
    pub(super) ids: String,
}

impl BmcMessage {
    /// Reads the message from a body; empty for a body without one.
    pub(super) fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &body["error"];
        let infos = error["@Message.ExtendedInfo"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Some BMCs send one object in place of the list.
        let infos =
            if infos.is_empty() { std::slice::from_ref(&error["@Message.ExtendedInfo"]) } else { infos };
        let infos: Vec<_> = infos.iter().take(MAX_MESSAGES).collect();
        let mut texts: Vec<&str> = infos.iter().filter_map(|info| info["Message"].as_str()).collect();
        let mut ids: Vec<&str> = infos.iter().filter_map(|info| info["MessageId"].as_str()).collect();
        // The general message repeats that there is a detailed one.
        if texts.is_empty() {
            texts.extend(error["message"].as_str());
        }
        ids.extend(error["code"].as_str());
        texts.dedup();
        Self { text: cut_text(&texts.join(" ")), ids: cut_text(&ids.join(" ")) }
    }
}

/// Cuts a text of a BMC: one line, without control characters.
pub(super) fn cut_text(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.take(MAX_TEXT).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn extended_info_is_read_and_cut() {
        let read = |body: Value| BmcMessage::read(body.to_string().as_bytes());
        // The form of iDRAC, with a general message beside the detailed one.
        let idrac = json!({"error": {
            "code": "Base.1.7.GeneralError",
            "message": "A general error has occurred. See ExtendedInfo for more information",
            "@Message.ExtendedInfo": [{
                "Message": "The maximum number of user sessions is reached.",
                "MessageId": "IDRAC.2.4.RAC0218",
            }],
        }});
        let message = read(idrac);
        assert_eq!(message.text, "The maximum number of user sessions is reached.");
        assert_eq!(message.ids, "IDRAC.2.4.RAC0218 Base.1.7.GeneralError");
        // The form of OpenBMC and sushy-tools: a message without details.
        let plain = json!({"error": {"code": "Base.1.0.GeneralError", "message": "Not\nfound\u{7}!"}});
        assert_eq!(read(plain).text, "Not found !");
        let object = json!({"error": {"@Message.ExtendedInfo": {"Message": "No", "MessageId": "X.1"}}});
        assert_eq!(read(object), BmcMessage { text: "No".into(), ids: "X.1".into() });
        let long = read(json!({"error": {"message": "é ".repeat(9000)}}));
        assert_eq!(long.text.chars().count(), MAX_TEXT + 1);
        for garbage in ["", "<html>", "[]", "{\"error\": 3}"] {
            assert_eq!(BmcMessage::read(garbage.as_bytes()), BmcMessage::default(), "{garbage}");
        }
    }
}
