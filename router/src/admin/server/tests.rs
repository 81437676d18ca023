//! Real requests against a real listener on port 0: who is let in, and what others are told.

use std::io::{Read, Write};
use std::net::TcpStream;

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::*;
use crate::admin::body::{Answer, JsonBody};
use crate::admin::{Readiness, State, health, metrics};

struct Fixture {
    server: Server,
    readiness: Arc<Readiness>,
    token: String,
    folder: tempfile::TempDir,
}

/// Status, headers and body of one answer.
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    fn error_code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body));
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { hosts: vec!["gateway.test".to_owned()], body_bytes_max: 1_024, ..Config::default() };
    let readiness = Arc::new(Readiness::default());
    let open = health::routes(Arc::clone(&readiness)).merge(metrics::routes(metrics::Metrics::default()));
    let guarded = Router::new()
        .route("/echo", post(|JsonBody(body): JsonBody<Value>| async { Answer(body) }))
        .route("/hello", get(|| async { "hello" }));
    let server =
        Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), &config, folder.path(), open, guarded).await.unwrap();
    let token = fs::read_to_string(folder.path().join("admin.token")).unwrap().trim().to_owned();
    Fixture { server, readiness, token, folder }
}

impl Fixture {
    async fn send(&self, request: String) -> Heard {
        let addr = self.server.addr();
        let heard = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let heard = heard.await.unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Heard { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, headers: &str) -> Heard {
        self.send(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Heard {
        let (token, length) = (&self.token, body.len());
        let fixed = format!(
            "Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n"
        );
        self.send(format!("POST {path} HTTP/1.1\r\n{fixed}{headers}\r\n{body}")).await
    }
}

#[tokio::test]
async fn who_may_call_what() {
    let fixture = fixture().await;
    let bearer = format!("Authorization: Bearer {}\r\n", fixture.token);
    let here = "Host: 127.0.0.1:1\r\n";
    // (path, headers, status, code of the error)
    let cases = [
        ("/healthz", here.to_owned(), 200, ""),
        ("/metrics", here.to_owned(), 200, ""),
        ("/healthz", "Host: gateway.test\r\n".to_owned(), 200, ""),
        ("/healthz", "Host: evil.example\r\n".to_owned(), 403, "host_refused"),
        ("/metrics", format!("{here}Origin: https://evil.example\r\n"), 403, "origin_refused"),
        ("/v1/hello", format!("{here}{bearer}"), 200, ""),
        ("/v1/hello", format!("{here}{bearer}Origin: http://127.0.0.1:1\r\n"), 200, ""),
        ("/v1/hello", format!("{here}{bearer}Origin: http://127.0.0.1:2\r\n"), 403, "origin_refused"),
        ("/v1/hello", format!("Host: evil.example\r\n{bearer}"), 403, "host_refused"),
        ("/v1/hello", bearer.clone(), 400, "bad_request"),
        ("/v1/hello", here.to_owned(), 401, "token_refused"),
        ("/v1/hello", format!("{here}Authorization: Bearer x\r\n"), 401, "token_refused"),
        ("/v1/nothing", here.to_owned(), 401, "token_refused"),
        ("/v1/nothing", format!("{here}{bearer}"), 404, "not_found"),
        ("/v1/echo", format!("{here}{bearer}"), 405, "method_not_allowed"),
        ("/nothing", here.to_owned(), 404, "not_found"),
    ];
    for (path, headers, status, code) in cases {
        let heard = fixture.get(path, &headers).await;
        assert_eq!(heard.status, status, "{path} {headers}");
        if !code.is_empty() {
            assert_eq!(heard.error_code(), code, "{path} {headers}");
        }
        assert_eq!(heard.head.contains("www-authenticate: bearer"), status == 401, "{path} {headers}");
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn bodies_are_checked_before_they_are_taken() {
    let fixture = fixture().await;
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let heard = fixture.post("/v1/echo", json, r#"{"a":1}"#).await;
    assert_eq!((heard.status, serde_json::from_str::<Value>(&heard.body).unwrap()), (200, json!({"a": 1})));
    let large = format!("\"{}\"", "x".repeat(2_000));
    // (headers, body, status, code)
    let cases = [
        (json, "{", 400, "bad_request"),
        ("", "{}", 415, "not_json"),
        ("Content-Type: text/plain\r\n", "{}", 415, "not_json"),
        (json, large.as_str(), 413, "too_large"),
    ];
    for (headers, body, status, code) in cases {
        let heard = fixture.post("/v1/echo", headers, body).await;
        assert_eq!((heard.status, heard.error_code().as_str()), (status, code), "{headers} {}", body.len());
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn readiness_follows_the_node_and_its_parts() {
    let fixture = fixture().await;
    let ask = async || fixture.get("/readyz", "Host: localhost\r\n").await;
    assert_eq!(ask().await.status, 503, "starting");
    fixture.readiness.set(State::Ready);
    assert_eq!(ask().await.status, 200);
    fixture.readiness.add_check("store", || Some("the disk is full".to_owned()));
    let heard = ask().await;
    assert_eq!(heard.status, 503);
    assert!(heard.body.contains(r#"{"part":"store","reason":"the disk is full"}"#), "{}", heard.body);
    fixture.readiness.set(State::Stopping);
    assert!(ask().await.body.contains(r#""state":"stopping""#));
}

#[tokio::test]
async fn a_running_node_says_where_it_listens_and_a_stopped_one_does_not() {
    let fixture = fixture().await;
    let file = fixture.folder.path().join(ADDR_FILE);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", fixture.server.addr()));
    let addr = fixture.server.addr();
    // An idle connection does not delay the stop.
    let _idle = TcpStream::connect(addr).unwrap();
    let begun = std::time::Instant::now();
    fixture.server.stop().await;
    assert!(begun.elapsed() < STOP_WITHIN, "an idle connection is closed at once");
    assert!(!file.exists());
    assert!(TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn memory_is_among_the_metrics() {
    let fixture = fixture().await;
    let heard = fixture.get("/metrics", "Host: localhost\r\n").await;
    let line = heard.body.lines().find(|line| line.starts_with("edgeway_memory_resident_bytes ")).unwrap().to_owned();
    let bytes: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(bytes > 1 << 20, "{line}");
}
