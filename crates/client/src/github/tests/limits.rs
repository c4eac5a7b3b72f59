//! Rate limits and faults that pass.

use super::server::{Server, reply};
use super::{Client, NOW};
use crate::failure::{Exit, Failure};
use crate::github::SourceError;

fn used_up(reset: i64) -> Option<axum::http::Response<axum::body::Body>> {
    let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset.to_string())];
    reply(403, &headers, "{\"message\":\"API rate limit exceeded\"}")
}

#[tokio::test]
async fn a_limit_that_ends_soon_is_waited_for() {
    let server = Server::with_everything();
    let mut answers = vec![used_up(NOW + 2)];
    server.set_fault(move |_| answers.pop().flatten());
    let client = Client::new(&server);
    client.repository.resolve(&"main".parse().unwrap()).await.unwrap();
    assert_eq!((client.clock.pauses(), client.told()), (vec![3], vec!["waiting".to_owned()]));
}

#[tokio::test]
async fn a_limit_that_lasts_makes_git_take_over() {
    let server = Server::with_everything();
    server.set_fault(|asked| if asked.path.starts_with("/repos/") { used_up(NOW + 3000) } else { None });
    let client = Client::new(&server);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert!(client.clock.pauses().is_empty());
    let told = client.told();
    assert!(told[0].starts_with("using git: the rate limit of 127.0.0.1 is used up until 20"), "{told:?}");
}

#[tokio::test]
async fn a_limit_in_the_middle_of_a_download_makes_git_take_over() {
    let server = Server::with_everything();
    let mut blobs = 0;
    server.set_fault(move |asked| {
        blobs += usize::from(asked.path.contains("/blobs/"));
        if blobs > 3 && asked.path.starts_with("/repos/") { used_up(NOW + 3000) } else { None }
    });
    let client = Client::new(&server);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert_eq!(client.told().len(), 1);
}

#[test]
fn a_limit_is_reported_with_its_end_and_what_helps() {
    let until = jiff::Timestamp::from_second(NOW).unwrap();
    let limited =
        |has_token| SourceError::RateLimited { host: "api.github.com".to_owned(), until, has_token };
    let failure = Failure::from(limited(false));
    assert_eq!(failure.exit(), Exit::Network);
    let local = until.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert!(failure.messages().next().unwrap().contains(&local));
    assert!(failure.hints()[0].contains("GITHUB_TOKEN"));
    assert!(!Failure::from(limited(true)).hints()[0].contains("GITHUB_TOKEN"));
}

#[tokio::test]
async fn faults_that_pass_are_outlasted() {
    let server = Server::with_everything();
    let mut answers = vec![
        reply(502, &[], ""),
        reply(503, &[("retry-after", "7")], ""),
        // A body that ends before it is complete.
        reply(200, &[], broken_body()),
    ];
    server
        .set_fault(move |asked| if asked.path.contains("/blobs/") { answers.pop().flatten() } else { None });
    let client = Client::new(&server);
    assert_eq!(client.read("main").await.unwrap(), server.expected("main"));
    assert_eq!(client.told(), ["retrying"; 3]);
    assert!(client.clock.pauses().contains(&7));
}

#[tokio::test]
async fn faults_that_stay_end_the_run_after_a_few_tries() {
    let server = Server::with_everything();
    server.set_fault(|_| reply(500, &[], ""));
    let client = Client::new(&server);
    let (exit, message) = client.failure("main").await;
    assert_eq!(exit, Exit::Network);
    assert!(message.ends_with("answered 500"), "{message}");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_said_to_be_so() {
    let server = Server::with_everything();
    server.set_fault(|_| reply(401, &[], "{\"message\":\"Bad credentials\\u001b[2J\"}"));
    let failure = Failure::from(Client::new(&server).read("main").await.unwrap_err());
    assert_eq!(failure.exit(), Exit::Permission);
    assert!(failure.messages().next().unwrap().ends_with(r"answered 401: Bad credentials\u{1b}[2J"));
    assert!(!format!("{failure:?}").contains("ghp_secret"));
}

fn broken_body() -> axum::body::Body {
    let parts = [Ok(axum::body::Bytes::from_static(b"rea")), Err(std::io::Error::other("cut"))];
    axum::body::Body::from_stream(futures::stream::iter(parts))
}
