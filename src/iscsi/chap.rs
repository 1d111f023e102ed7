//! CHAP (RFC 1994, RFC 7143 §12.1.3): the response to a target's challenge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret as _, SecretString};

use super::Error;
use super::text::Pairs;

/// The number of MD5 among CHAP's algorithms; the only one that iPXE knows.
pub(super) const MD5: &str = "5";
/// The longest challenge (§12.1.3).
const MAX_CHALLENGE: usize = 1024;

/// The value of `CHAP_R` for a challenge: the MD5 digest of identifier, secret and challenge.
pub(super) fn respond(challenge: &Pairs, secret: &SecretString) -> Result<String, Error> {
    if challenge.get("CHAP_A") != Some(MD5) {
        return Err(Error::Protocol("the target chose a CHAP algorithm that was not offered"));
    }
    let identifier = challenge.get("CHAP_I").and_then(parse_number);
    let identifier = identifier.ok_or(Error::Protocol("CHAP_I is missing or invalid"))?;
    let challenge = challenge.get("CHAP_C").and_then(parse_binary);
    let challenge = challenge.ok_or(Error::Protocol("CHAP_C is missing or invalid"))?;
    let mut hash = Md5::new();
    hash.update([identifier]);
    hash.update(secret.expose_secret().as_bytes());
    hash.update(&challenge);
    let mut response = "0x".to_owned();
    for byte in hash.finalize() {
        response += &format!("{byte:02x}");
    }
    Ok(response)
}

/// A number in decimal or hexadecimal digits (§6.1).
fn parse_number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A binary value in hexadecimal digits (`0x`) or in Base64 (`0b`), as §6.1 defines them.
fn parse_binary(text: &str) -> Option<Vec<u8>> {
    let (form, digits) = text.split_at_checked(2)?;
    let bytes = match form {
        "0b" | "0B" => STANDARD.decode(digits).ok()?,
        "0x" | "0X" if digits.is_ascii() && digits.len() <= 2 * MAX_CHALLENGE => {
            let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
            let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16);
            (0..digits.len()).step_by(2).map(pair).collect::<Result<_, _>>().ok()?
        }
        _ => return None,
    };
    (1..=MAX_CHALLENGE).contains(&bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Responses that a Linux initiator (open-iscsi) would send: computed with `hashlib.md5`.
    #[test]
    fn response_is_the_digest_of_identifier_secret_and_challenge() {
        let secret = SecretString::from("secretsecret");
        for challenge in ["0x00112233445566778899aabbccddeeff", "0bABEiM0RVZneImaq7zN3u/w=="] {
            let text = format!("CHAP_A=5\0CHAP_I=7\0CHAP_C={challenge}\0");
            let pairs = Pairs::parse(text.as_bytes()).expect("pairs");
            assert_eq!(respond(&pairs, &secret).expect("a response"), "0xb975544b46acd4846a81b269e4e53f63");
        }
    }

    #[test]
    fn invalid_challenges_are_errors() {
        for text in [
            "CHAP_A=7\0CHAP_I=7\0CHAP_C=0x00",
            "CHAP_A=5\0CHAP_C=0x00",
            "CHAP_A=5\0CHAP_I=256\0CHAP_C=0x00",
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=0x",
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=0xzz",
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=0xé",
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=é",
            "CHAP_A=5\0CHAP_I=1\0CHAP_C=0b!",
        ] {
            let pairs = Pairs::parse(text.as_bytes()).expect("pairs");
            assert!(respond(&pairs, &SecretString::from("secretsecret")).is_err(), "{text}");
        }
    }
}
