//! The first script of a boot session, and iPXE binaries for UEFI HTTP boot.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::respond::{respond_script, respond_script_error};
use super::{HttpState, events};
use crate::listen::Peer;
use crate::script::{self, Journey};

/// Sends `boot.ipxe`, with `base` before its URLs.
pub(super) async fn serve_gather(state: &HttpState, peer: Peer, method: &Method, base: &str) -> Response {
    if *method == Method::GET {
        state.timeline.record(events::session_started(
            peer,
            state.neighbours.check(peer.remote, peer.local.ip()).await.mac(),
        ));
    }
    match script::build_gather(base, Journey::new()) {
        Ok(script) => respond_script(script),
        Err(error) => respond_script_error(&error),
    }
}

/// Sends an iPXE binary; `None` if the host lacks it.
pub(super) async fn serve_image(
    state: &HttpState,
    peer: Peer,
    method: &Method,
    name: &str,
) -> Option<Response> {
    let image = state.images.get(name);
    record_fetch(state, peer, method, name, image.as_ref().map(|content| content.len() as u64)).await;
    // UEFI HTTP boot derives the file type from the media type, or from the extension.
    let is_efi = name.rsplit_once('.').is_some_and(|(_, extension)| extension == "efi");
    let media_type = if is_efi { "application/efi" } else { "application/octet-stream" };
    image.map(|content| (StatusCode::OK, [(header::CONTENT_TYPE, media_type)], content).into_response())
}

/// Records that firmware requested a file; `size` is `None` if there is no such file.
pub(super) async fn record_fetch(
    state: &HttpState,
    peer: Peer,
    method: &Method,
    name: &str,
    size: Option<u64>,
) {
    if *method == Method::GET {
        let mac = state.neighbours.check(peer.remote, peer.local.ip()).await.mac();
        state.timeline.record(events::http_fetch(peer, mac, name.to_owned(), size));
    }
}
