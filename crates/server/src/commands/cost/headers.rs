//! What requests and the heads of answers are made of, so that they can be counted.

use std::ops::Add;

use serde_json::{Value, json};
use smart_sync_store::id::ManifestId;
use smart_sync_sync::name::{Channel, RefName};

use crate::bundles::{BundleFile, FromText};
use crate::realm::Realm;

/// Bytes both ways, for one request or for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Exchange {
    pub(super) requests: u64,
    /// Bytes of bodies that the host receives.
    pub(super) received: u64,
    /// Bytes of status lines and headers that it receives.
    pub(super) received_headers: u64,
    /// Bytes that it sends.
    pub(super) sent: u64,
}

impl Exchange {
    pub(super) const fn total(&self) -> u64 {
        self.received + self.received_headers + self.sent
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "requests": self.requests, "received": self.received, "received_headers": self.received_headers,
            "sent": self.sent, "bytes": self.total(),
        })
    }
}

impl Add for Exchange {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            received: self.received + other.received,
            received_headers: self.received_headers + other.received_headers,
            sent: self.sent + other.sent,
        }
    }
}

/// A GET of the client, and an answer with these headers and a body of so many bytes.
fn exchange(
    realm: &Realm,
    path: &str,
    more: &str,
    status: &str,
    headers: &[(&str, &str)],
    body: u64,
) -> Exchange {
    let host = &realm.origin;
    let request = format!("GET {path} HTTP/1.1\r\n{more}accept: */*\r\nhost: {host}\r\n\r\n");
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let fixed = format!("HTTP/1.1 {status}\r\ncontent-length: {body}\r\n\r\n").len();
    // `date: Sun, 06 Nov 1994 08:49:37 GMT` is as long at any time.
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();
    Exchange {
        requests: 1,
        received: body,
        received_headers: (head + fixed + date) as u64,
        sent: request.len() as u64,
    }
}

const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");
const RANGES: (&str, &str) = ("accept-ranges", "bytes");

/// `GET /v1/update/…`
pub(super) fn update(
    realm: &Realm,
    channel: &Channel,
    reference: &RefName,
    have: Option<&ManifestId>,
    size: Option<u64>,
    bytes: u64,
) -> Exchange {
    let mut path = format!("/v1/update/{}/{}", channel.to_url_segment(), reference.to_url_segment());
    let have = have.map(|have| format!("have={have}"));
    // A host that holds a version wants the bundle from there along with the answer.
    let bundle = have.is_some().then(|| "bundle=".to_owned());
    let size = size.map(|size| format!("size={size}"));
    let query: Vec<_> = have.into_iter().chain(size).chain(bundle).collect();
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    exchange(realm, &path, "", "200 OK", &[OCTETS, ("cache-control", "no-store")], bytes)
}

/// `GET /bundle/…` of a bundle that is stored.
pub(super) fn bundle(realm: &Realm, file: &BundleFile) -> Exchange {
    let path = format!("/bundle/{}/{}", FromText(&file.step.from), file.step.to);
    let etag = file.variant.etag();
    let caching = crate::http::bundle_caching(&file.step.domain);
    let headers = [OCTETS, RANGES, ("etag", etag.as_str()), ("cache-control", caching)];
    exchange(realm, &path, "", "200 OK", &headers, file.length)
}

/// `GET /v1/delta/…`
pub(super) fn delta(realm: &Realm, from: Option<ManifestId>, to: ManifestId, bytes: u64) -> Exchange {
    let path = format!("/v1/delta/{}/{to}", FromText(&from));
    exchange(realm, &path, "", "200 OK", &[OCTETS, ("cache-control", "public, max-age=60")], bytes)
}

/// `GET /pack/…` with a range.
pub(super) fn range(realm: &Realm, pack: &str, length: u64, bytes: std::ops::Range<u64>) -> Exchange {
    let (start, last) = (bytes.start, bytes.end.saturating_sub(1));
    let (etag, part) = (format!("\"{pack}\""), format!("bytes {start}-{last}/{length}"));
    let headers = [
        OCTETS,
        RANGES,
        ("cache-control", "public, max-age=31536000, immutable"),
        ("etag", etag.as_str()),
        ("content-range", part.as_str()),
    ];
    let asked = format!("range: bytes={start}-{last}\r\n");
    exchange(
        realm,
        &format!("/pack/{pack}"),
        &asked,
        "206 Partial Content",
        &headers,
        bytes.end - bytes.start,
    )
}
