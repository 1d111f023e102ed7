//! Responses with an iPXE script.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::script::{Script, ScriptError};

/// Scripts hold secrets, and each is made for one request.
pub(super) const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

pub(super) fn respond_script(script: Script) -> Response {
    (NO_STORE, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], script.into_text()).into_response()
}

pub(super) fn respond_script_error(error: &ScriptError) -> Response {
    tracing::error!(error = %error, "cannot write a boot script");
    (StatusCode::INTERNAL_SERVER_ERROR, "volboot: cannot write the boot script; see volboot's log\n")
        .into_response()
}
