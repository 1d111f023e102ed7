//! Proofs: HMAC-SHA256 over each request and each response between instances.
//!
//! A request's proof covers its method, path and query, body, sender and receiver, the receiver's challenge and a nonce of
//! the sender. A response's proof covers its status and body, and the challenge and nonce of its request: it answers that
//! request only. Each field has its length before it, so no two messages have the same bytes.

use ring::digest::{SHA256, digest};
use ring::hmac;

use super::secret::ClusterSecret;
use crate::model::InstanceName;

/// The header with the sender's name.
pub(super) const INSTANCE: &str = "volboot-instance";
/// The header with a challenge. A request answers it; a response brings the challenge for the next request.
pub(super) const CHALLENGE: &str = "volboot-challenge";
/// The header with the nonce of a request.
pub(super) const NONCE: &str = "volboot-nonce";
/// The header with the proof of a request or a response.
pub(super) const PROOF: &str = "volboot-proof";

/// The parts of a request that its proof covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProvedRequest<'a> {
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) from: &'a InstanceName,
    pub(super) to: &'a InstanceName,
    pub(super) challenge: &'a str,
    pub(super) nonce: &'a str,
    pub(super) body: &'a [u8],
}

/// The parts of a response under the proof, beside the parts of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProvedResponse<'a> {
    pub(super) status: u16,
    pub(super) next_challenge: &'a str,
    pub(super) body: &'a [u8],
}

impl ProvedRequest<'_> {
    fn message(&self) -> Vec<u8> {
        join_fields(&[
            b"volboot request 1",
            self.method.as_bytes(),
            self.target.as_bytes(),
            self.from.as_str().as_bytes(),
            self.to.as_str().as_bytes(),
            self.challenge.as_bytes(),
            self.nonce.as_bytes(),
            digest(&SHA256, self.body).as_ref(),
        ])
    }

    /// The proof, in hexadecimal digits.
    pub(super) fn sign(&self, secret: &ClusterSecret) -> String {
        sign(secret, &self.message())
    }

    /// Whether the proof is that of this request.
    pub(super) fn verify(&self, secret: &ClusterSecret, proof: &str) -> bool {
        verify(secret, &self.message(), proof)
    }

    fn response_message(&self, response: &ProvedResponse<'_>) -> Vec<u8> {
        join_fields(&[
            b"volboot response 1",
            response.status.to_string().as_bytes(),
            response.next_challenge.as_bytes(),
            digest(&SHA256, response.body).as_ref(),
            &self.message(),
        ])
    }

    /// The proof of the response to this request.
    pub(super) fn sign_response(&self, secret: &ClusterSecret, response: &ProvedResponse<'_>) -> String {
        sign(secret, &self.response_message(response))
    }

    /// Whether the proof is that of a response to this request.
    pub(super) fn verify_response(
        &self,
        secret: &ClusterSecret,
        response: &ProvedResponse<'_>,
        proof: &str,
    ) -> bool {
        verify(secret, &self.response_message(response), proof)
    }
}

fn join_fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for field in fields {
        message.extend_from_slice(&(field.len() as u64).to_be_bytes());
        message.extend_from_slice(field);
    }
    message
}

fn sign(secret: &ClusterSecret, message: &[u8]) -> String {
    encode_hex(hmac::sign(secret.key(), message).as_ref())
}

fn verify(secret: &ClusterSecret, message: &[u8], proof: &str) -> bool {
    decode_hex(proof).is_some_and(|proof| hmac::verify(secret.key(), message, &proof).is_ok())
}

/// Hexadecimal digits.
pub(super) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The bytes of hexadecimal digits.
pub(super) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_proved() {
        let secret = ClusterSecret::new(b"secret");
        let [one, two]: [InstanceName; 2] = ["boot-1", "boot-2"].map(|name| name.parse().expect("a name"));
        let request = ProvedRequest {
            method: "GET",
            target: "/a?b",
            from: &one,
            to: &two,
            challenge: "c",
            nonce: "n",
            body: b"",
        };
        let proof = request.sign(&secret);
        assert!(request.verify(&secret, &proof));
        for other in [
            ProvedRequest { method: "PUT", ..request },
            ProvedRequest { target: "/a?c", ..request },
            ProvedRequest { from: &two, ..request },
            ProvedRequest { to: &one, ..request },
            ProvedRequest { challenge: "d", ..request },
            ProvedRequest { nonce: "m", ..request },
            ProvedRequest { challenge: "cn", nonce: "", ..request },
            ProvedRequest { body: b"x", ..request },
        ] {
            assert!(!other.verify(&secret, &proof), "{other:?}");
        }
        assert!(!request.verify(&ClusterSecret::new(b"other"), &proof));
        for proof in ["", "0", "zz", &proof[..62]] {
            assert!(!request.verify(&secret, proof), "{proof}");
        }

        let response = ProvedResponse { status: 200, next_challenge: "e", body: b"events" };
        let proof = request.sign_response(&secret, &response);
        assert!(request.verify_response(&secret, &response, &proof));
        assert!(!request.verify(&secret, &proof));
        for other in [
            ProvedResponse { status: 201, ..response },
            ProvedResponse { next_challenge: "f", ..response },
            ProvedResponse { body: b"event", ..response },
        ] {
            assert!(!request.verify_response(&secret, &other, &proof), "{other:?}");
        }
        let later = ProvedRequest { nonce: "m", ..request };
        assert!(!later.verify_response(&secret, &response, &proof), "a response to another request");
    }
}
