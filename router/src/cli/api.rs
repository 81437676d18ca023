//! Calls to a node's HTTP API, and what their failures mean for people.

use std::io::{BufReader, Read};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Response;
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder};

use super::locate::{Located, NodeArgs};
use super::{Exit, Failure};

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an ordinary call may take.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// Largest answer that is read at once, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A node to call.
pub struct Api {
    agent: Agent,
    base: String,
    token: String,
}

/// What the node says of a failed call.
#[derive(Deserialize)]
struct Refusal {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: String,
    message: String,
    #[serde(default)]
    hint: String,
}

impl Api {
    /// The node that the flags mean.
    ///
    /// # Errors
    /// When it cannot be found.
    pub fn to(args: &NodeArgs) -> Result<Self, Failure> {
        let Located { base, token } = args.locate()?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WITHIN))
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("edgeway/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), base, token })
    }

    /// GET, and the JSON answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.prepare(self.agent.get(self.url(path)), Some(CALL_WITHIN));
        self.json(self.checked(request.call())?)
    }

    /// GET of a stream that may never end.
    pub fn get_stream(&self, path: &str) -> Result<BufReader<impl Read + use<>>, Failure> {
        let request = self.prepare(self.agent.get(self.url(path)), None);
        Ok(BufReader::new(self.checked(request.call())?.into_body().into_reader()))
    }

    /// POST of JSON, and the JSON answer. A call that waits says how much longer it may take.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value, waits: Duration) -> Result<T, Failure> {
        let request = self.prepare(self.agent.post(self.url(path)), Some(CALL_WITHIN + waits));
        self.json(self.checked(request.send_json(body))?)
    }

    /// POST of JSON, and a stream of lines as answer.
    pub fn post_stream(&self, path: &str, body: &Value) -> Result<BufReader<impl Read + use<>>, Failure> {
        let request = self.prepare(self.agent.post(self.url(path)), None);
        Ok(BufReader::new(self.checked(request.send_json(body))?.into_body().into_reader()))
    }

    /// PATCH of a JSON text, and the JSON answer.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, Failure> {
        self.send(self.agent.patch(self.url(path)), body)
    }

    /// PUT of a JSON text, and the JSON answer.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, Failure> {
        self.send(self.agent.put(self.url(path)), body)
    }

    fn send<T: DeserializeOwned>(&self, to: RequestBuilder<WithBody>, body: &[u8]) -> Result<T, Failure> {
        let request = self.prepare(to, Some(CALL_WITHIN)).header("Content-Type", "application/json");
        self.json(self.checked(request.send(body))?)
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        let request = self.prepare(self.agent.delete(self.url(path)), Some(CALL_WITHIN));
        self.checked(request.call()).map(drop)
    }

    /// DELETE, and the JSON answer.
    pub fn delete_told<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.prepare(self.agent.delete(self.url(path)), Some(CALL_WITHIN));
        self.json(self.checked(request.call())?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }

    fn prepare<B>(&self, request: RequestBuilder<B>, within: Option<Duration>) -> RequestBuilder<B> {
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        request.config().timeout_global(within).build()
    }

    fn checked(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        Err(refused(status.as_u16(), &text))
    }

    fn json<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, Failure> {
        let bytes = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("the node at {} gave an answer that is not understood: {error}", self.base);
            Failure::new(Exit::Failed, what).hint("is this CLI as new as the node? compare `edgeway --version`")
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let what = format!("the node at {} does not answer: {error}", self.base);
        Failure::new(Exit::Unreachable, what)
            .hint("is it running? start it with `edgeway run`, or name another with --node")
    }
}

/// What a refused call means.
fn refused(status: u16, text: &str) -> Failure {
    let exit = match status {
        401 | 403 => Exit::Refused,
        404 => Exit::NotFound,
        400 | 413 => Exit::Usage,
        _ => Exit::Failed,
    };
    match serde_json::from_str::<Refusal>(text) {
        Ok(Refusal { error: Told { code, message, hint } }) => Failure::new(exit, message).hint(hint).coded(code),
        Err(_) => Failure::new(exit, format!("the node answered {status}: {}", text.trim())),
    }
}

/// Encodes one part of a path or a query's value.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_become_exit_codes_and_words() {
        let error = r#"{"error":{"code":"not_found","message":"there is no topic a","hint":"look"}}"#;
        let cases = [
            (404, error, Exit::NotFound, "there is no topic a", "look"),
            (401, r#"{"error":{"code":"x","message":"no"}}"#, Exit::Refused, "no", ""),
            (400, r#"{"error":{"code":"x","message":"no"}}"#, Exit::Usage, "no", ""),
            (500, "<html>", Exit::Failed, "the node answered 500: <html>", ""),
        ];
        for (status, text, expected, message, advice) in cases {
            let Failure::Told { exit, what, hint, .. } = refused(status, text) else { panic!("{text}") };
            assert_eq!((exit, what.as_str(), hint.as_str()), (expected, message, advice));
        }
        let Failure::Told { code, .. } = refused(404, error) else { panic!("{error}") };
        assert_eq!(code, "not_found");
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encoded("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        assert_eq!(encoded("A-z_0.9~"), "A-z_0.9~");
    }
}
