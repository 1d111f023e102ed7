//! Style sheet, script and icon of the pages, compiled into the binary: nothing to install, no third-party resources.

use axum::http::{HeaderName, header};

type Asset = ([(HeaderName, &'static str); 1], &'static str);

pub(super) async fn get_style() -> Asset {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../templates/ui/style.css"))
}

pub(super) async fn get_script() -> Asset {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("../../templates/ui/live.js"))
}

pub(super) async fn get_icon() -> Asset {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("../../templates/ui/icon.svg"))
}
