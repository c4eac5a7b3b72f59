//! What a server bears: slow and many clients, bodies that are too large, TLS, and being told to stop.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

use smart_sync_tests::http::{curl, get, send};
use smart_sync_tests::server::serve;
use smart_sync_tests::{Realm, Server, TestEnvironment, program};

/// Longer than anything here takes on the slowest machine: a read that ends in a timeout fails the test.
const PATIENCE: Duration = Duration::from_secs(120);

fn connect(realm: &Realm) -> TcpStream {
    let stream = TcpStream::connect(realm.server().address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for the server to close a connection, and returns what it said before.
fn until_closed(mut stream: &TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn headers_that_do_not_come_end_the_connection() {
    let environment = TestEnvironment::new();
    let realm = Realm::start_with(&environment, "realm", "[limits]\nheader-seconds = 1\n", &[]);
    let http1 = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let idle = format!("{http1}\r\n");
    for beginning in ["", "GET", http1, &http2[..9], http2, &idle] {
        let mut stream = connect(&realm);
        stream.write_all(beginning.as_bytes()).unwrap();
        until_closed(&stream);
    }
    get(&environment, &realm.url("healthz"), None).expect(200);
}

#[test]
fn a_body_that_stops_coming_ends_the_request() {
    let environment = TestEnvironment::new();
    let realm = Realm::start_with(&environment, "realm", "[limits]\nbody-idle-seconds = 1\n", &[]);
    let pack = "0".repeat(64);
    let upload = |length: usize| {
        let mut stream = connect(&realm);
        let token = realm.token();
        let headers = format!(
            "PUT /v1/pack/repos%2Fx/{pack} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\nbeginning"
        );
        stream.write_all(headers.as_bytes()).unwrap();
        stream
    };
    // More of them than are taken in at once: each gives its place to the next.
    let slow: Vec<_> = (0..4).map(|_| upload(1000)).collect();
    assert!(until_closed(&upload(9)).starts_with("HTTP/1.1 422"));
    for stream in slow {
        let answer = until_closed(&stream);
        assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
    }
}

#[test]
fn too_many_or_too_long_headers_are_refused() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let refused = |headers: &str| {
        let mut stream = connect(&realm);
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        let answer = until_closed(&stream);
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    };
    refused(&"A: b\r\n".repeat(100));
    refused(&format!("A: {}\r\n", "b".repeat(400_000)));
    get(&environment, &realm.url("healthz"), None).expect(200);
}

#[test]
fn an_address_has_a_bounded_number_of_connections() {
    let environment = TestEnvironment::new();
    let limits = "[limits]\nconnections-per-address = 3\n";
    let realm = Realm::start_with(&environment, "realm", limits, &[]);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    let mut held: Vec<_> = (0..3).map(|_| connect(&realm)).collect();
    for stream in &mut held {
        assert_eq!(&ask(stream).unwrap(), b"HTTP/1.1 200");
    }
    assert_eq!(until_closed(&connect(&realm)), "");
    drop(held);
    // The places are given back when the server has noticed.
    while connect_and_ask(&realm).is_none() {}
}

fn connect_and_ask(realm: &Realm) -> Option<()> {
    let mut stream = connect(realm);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let environment = TestEnvironment::new();
    let limits = "[limits]\nrequests-per-second = 1\nrequests-burst = 3\n";
    let realm = Realm::start_with(&environment, "realm", limits, &[]);
    let url = realm.url("healthz");
    let config = environment.write("many", format!("url = \"{url}\"\noutput = \"/dev/null\"\n").repeat(30));
    let mut command = environment.command("curl");
    command.args(["--silent", "--write-out", "%{http_code} %header{retry-after}\\n", "--config"]);
    let printed = program::run(command.arg(config)).success().stdout;
    let refused: Vec<&str> = printed.lines().filter(|line| line.starts_with("429")).collect();
    assert!(refused.len() >= 10, "{printed}");
    for line in refused {
        let seconds: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{line}");
    }
}

#[test]
fn bodies_have_a_bounded_length() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let status = |method: &str, path: &str, length: usize| {
        send(&environment, method, &realm.url(path), Some(realm.token()), &vec![0; length]).status
    };
    assert_eq!(status("POST", "v1/publish", 200_000), 413);
    assert_eq!(status("POST", "v1/root", 70_000), 413);
    assert_eq!(status("POST", "v1/missing/repos%2Fx", 33 * 65_537), 413);
    assert_eq!(status("POST", "v1/missing-contents/repos%2Fx", 3_000_000), 413);
    assert_eq!(status("POST", "v1/locate", 3_000_000), 413);
    let pack = format!("v1/pack/repos%2Fx/{}", "0".repeat(64));
    assert_eq!(status("PUT", &pack, (64 << 20) + 1), 413);
    assert_eq!(status("PUT", &pack, 1000), 422);
    assert_eq!(status("POST", "v1/missing/repos%2Fx", 33 * 65_536), 200);
}

#[test]
fn a_method_that_does_not_exist_is_refused() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    for (method, path) in
        [("DELETE", "files/"), ("POST", "checkpoint"), ("GET", "v1/publish"), ("PUT", "v1/refs")]
    {
        assert_eq!(send(&environment, method, &realm.url(path), None, b"").status, 405, "{method} {path}");
    }
}

/// A realm with one file that is too large for the buffers between two programs.
fn with_large_file(environment: &TestEnvironment) -> (Realm, usize) {
    let length = 24_000_000;
    let mut content = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    environment.write("tree/large", content);
    let realm = Realm::start(environment, "realm");
    realm.publish_local(environment, "repos/x", "main", &environment.path("tree"), &[]).success();
    (realm, length)
}

/// A download whose first bytes have come, and which waits for somebody to read the others.
fn begin_download(environment: &TestEnvironment, url: &str) -> Child {
    let mut download = environment
        .command("curl")
        .args(["--silent", "--show-error", "--fail", "--no-buffer", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    download.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    download
}

#[test]
fn a_download_ends_before_a_server_that_was_told_to_stop() {
    let environment = TestEnvironment::new();
    let (realm, length) = with_large_file(&environment);
    let mut download = begin_download(&environment, &realm.url("files/repos/x/main/large"));
    let idle = connect(&realm);
    let ended = std::thread::scope(|scope| {
        let output = download.stdout.as_mut().unwrap();
        let (sender, stopping) = std::sync::mpsc::channel();
        let address = realm.server().address().to_owned();
        let server = scope.spawn(move || {
            let mut ended = None;
            realm.end(|server| {
                sender.send(()).unwrap();
                ended = Some(server.stop());
            });
            ended.unwrap()
        });
        stopping.recv().unwrap();
        // Nothing new is accepted any more before the old ones have ended.
        while TcpStream::connect(&address).is_ok() {}
        assert!(!server.is_finished());
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() + 1, length);
        server.join().unwrap()
    });
    assert!(download.wait().unwrap().success());
    assert_eq!(ended.code(), Some(0));
    assert_eq!(until_closed(&idle), "", "a connection without a request does not hold up the stop");
}

#[test]
fn a_download_that_nobody_reads_does_not_hold_up_a_stop_for_ever() {
    let environment = TestEnvironment::new();
    let (realm, _) = with_large_file(&environment);
    let data = realm.end(|server| assert!(server.stop().success()));
    let settings = fs::read_to_string(data.join("server.toml")).unwrap();
    let settings = settings.replace("stop-seconds = 30", "stop-seconds = 1");
    fs::write(data.join("server.toml"), settings).unwrap();
    let server = Server::start(&mut serve(&environment, &data));
    let url = format!("{}/files/repos/x/main/large", server.url());
    let mut download = begin_download(&environment, &url);
    assert_eq!(server.stop().code(), Some(0));
    let mut rest = Vec::new();
    download.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    assert!(!download.wait().unwrap().success(), "curl has to notice that something is missing");
}

#[test]
fn systemd_is_told_when_the_server_is_ready() {
    let environment = TestEnvironment::new();
    let realm = Realm::start(&environment, "realm");
    let data = realm.end(|server| assert!(server.stop().success()));
    let path = environment.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Server::start(serve(&environment, &data).env("NOTIFY_SOCKET", &path));
    let mut said = [0; 256];
    let length = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1\n");
    get(&environment, &format!("{}/healthz", server.url()), None).expect(200);
    assert!(server.stop().success());
    let length = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"STOPPING=1\n");
}

#[test]
fn tls_speaks_http_2_and_1() {
    let environment = TestEnvironment::new();
    let (certificate, key) = (environment.path("tls.pem"), environment.path("tls.key"));
    let mut openssl = environment.command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]);
    program::run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).success();
    let realm = Realm::start(&environment, "realm");
    environment.write("tree/file", "content");
    realm.publish_local(&environment, "repos/x", "main", &environment.path("tree"), &[]).success();
    let data = realm.end(|server| assert!(server.stop().success()));
    let settings = fs::read_to_string(data.join("server.toml")).unwrap();
    let tls = format!(
        "{settings}\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    fs::write(data.join("server.toml"), tls).unwrap();

    let server = Server::start(&mut serve(&environment, &data));
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let url = format!("{}/files/repos/x/main/file", server.url());
    let trusted = certificate.to_str().unwrap();
    for (option, version) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        let answer = curl(&environment, &url, ["--cacert", trusted, option]).expect(200);
        assert_eq!((answer.version.as_str(), answer.text().as_str()), (version, "content"));
    }
    // A client that speaks no TLS is not answered, and does no harm.
    let plain =
        environment.command("curl").args(["--silent", &url.replace("https", "http")]).output().unwrap();
    assert!(!plain.status.success());
    curl(&environment, &url, ["--cacert", trusted]).expect(200);
    assert!(server.stop().success());

    fs::write(&key, "no key").unwrap();
    let failed = program::run(&mut serve(&environment, &data));
    assert_ne!(failed.code, Some(0));
    assert!(failed.stderr.contains("tls.key"), "{}", failed.stderr);
}
