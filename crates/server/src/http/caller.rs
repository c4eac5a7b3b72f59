//! Who sent a request, and how many they may send.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::listen::Peer;
use super::problem::Problem;
use crate::config::Limits;
use crate::tokens::{Caller, TokenStore};

/// The longest header that is looked at for a token.
const AUTHORIZATION_BYTES_MAX: usize = 1024;

/// How often stale addresses are forgotten, in requests.
const FORGET_EVERY: u64 = 4096;

/// Seconds since 1970. Everything below the handlers takes the time as a parameter.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const NOT_VALID: Problem = Problem::Unauthorized("the token is not valid");

/// The token that a request brings, if it brings one.
pub(crate) fn token_text(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| text.len() <= AUTHORIZATION_BYTES_MAX).ok_or(NOT_VALID)?;
    token_of(text).map(Some).ok_or(NOT_VALID)
}

/// Finds out whose token this is. A token that is not known is refused, also where none is needed: whoever sends one
/// believes that it counts.
pub(crate) fn identify(tokens: &TokenStore, text: &str) -> Result<Caller, Problem> {
    let token = tokens.find(text)?.ok_or(NOT_VALID)?;
    if token.expires <= now() {
        return Err(Problem::Unauthorized("the token has expired"));
    }
    Ok(Caller::Holder(token))
}

fn token_of(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        return decoded.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// Counts requests per address.
pub(crate) struct RateLimit {
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    requests: AtomicU64,
}

impl RateLimit {
    /// The limit that the configuration asks for.
    pub(crate) fn new(limits: &Limits) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(limits.requests_per_second))
            .allow_burst(at_least_one(limits.requests_burst));
        Self { limiter: RateLimiter::hashmap(quota), requests: 0.into() }
    }

    fn check(&self, address: IpAddr) -> Result<(), Problem> {
        // The map would grow with every address ever seen.
        if self.requests.fetch_add(1, Relaxed).is_multiple_of(FORGET_EVERY) {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&address).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            Problem::TooMany { retry_after_seconds: wait.as_secs() + 1 }
        })
    }
}

/// Refuses what is over the limit, before anything else is done for it.
pub(crate) async fn limit_rate(
    State(limit): State<std::sync::Arc<RateLimit>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(Peer(address)) = request.extensions().get::<Peer>()
        && let Err(problem) = limit.check(*address)
    {
        return problem.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_basic_password() {
        assert_eq!(token_of("Bearer sst_x").as_deref(), Some("sst_x"));
        assert_eq!(token_of("bearer  sst_x ").as_deref(), Some("sst_x"));
        assert_eq!(token_of("Basic dXNlcjpzc3RfeDp5").as_deref(), Some("sst_x:y"));
        for nothing in ["", "sst_x", "Digest x", "Basic ?", "Basic dXNlcg=="] {
            assert_eq!(token_of(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn an_address_is_held_back_and_others_are_not() {
        let limits = Limits { requests_per_second: 1, requests_burst: 2, ..Limits::default() };
        let limit = RateLimit::new(&limits);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(limit.check(one).is_ok() && limit.check(one).is_ok());
        let refused = (0..3).filter(|_| limit.check(one).is_err()).count();
        assert!(refused >= 2, "only {refused} of 3 were refused");
        assert!(limit.check(other).is_ok());
    }
}
