//! The HTTP client: one request, one answer, and a sentence for everything that can go wrong between.

use super::answer::Answer;
use super::{Failure, Options, print_raw};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::time::Duration;
use ureq::SendBody;
use ureq::http::request::Builder;
use ureq::http::{Request, Response, Uri};

/// Where a host listens unless told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const BASE: &str = "/api/v1/scheduler";
/// An upload is compiled before it is answered, which may take minutes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The largest answer: a page, which ends early where its records are large.
const MAX_ANSWER: u64 = 256 << 20;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A host to ask.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    /// Whether to print answers as they come.
    pub(super) json: bool,
}

fn invalid(error: ureq::http::Error) -> Failure {
    Failure::Usage(format!("this cannot be asked: {error}"))
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

impl Client {
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let url = Some(options.url.trim().trim_end_matches('/'))
            .filter(|url| !url.is_empty())
            .unwrap_or(DEFAULT_URL);
        let uri: Option<Uri> = url.parse().ok();
        let Some(uri) = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()) else {
            return Err(Failure::Usage(format!("--url {url} is no URL such as {DEFAULT_URL}")));
        };
        let token = options
            .token
            .as_deref()
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .map(str::to_owned);
        if token.as_deref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Failure::Usage("the token has characters that no token has".to_owned()));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_global(Some(PATIENCE));
        // A proxy of the environment does not know this machine by the name "localhost".
        if matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().into(),
            url: url.to_owned(),
            token,
            json: options.json,
        })
    }

    pub(super) fn get(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<Answer, Failure> {
        self.ask(Request::get(self.uri(path, query)), None)
    }

    pub(super) fn delete(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<Answer, Failure> {
        self.ask(Request::delete(self.uri(path, query)), None)
    }

    pub(super) fn post(&self, path: &str, body: &str) -> Result<Answer, Failure> {
        self.post_as(path, "application/json", body)
    }

    pub(super) fn post_as(&self, path: &str, content_type: &str, body: &str) -> Result<Answer, Failure> {
        let request = Request::post(self.uri(path, &[])).header("content-type", content_type);
        self.ask(request, Some(body.as_bytes()))
    }

    /// Sends what may take any time to read. The host answers it as it comes.
    pub(super) fn stream(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        content_type: &str,
        body: impl Read + 'static,
    ) -> Result<Answer, Failure> {
        let request = self.authorized(Request::post(self.uri(path, query)).header("content-type", content_type));
        let request = request.body(SendBody::from_owned_reader(body)).map_err(invalid)?;
        let request = self.agent.configure_request(request).timeout_global(None).build();
        self.answer(self.agent.run(request))
    }

    pub(super) fn put(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, Failure> {
        self.ask(Request::put(self.uri(path, &[])).header("content-type", content_type), Some(body))
    }

    /// Sends a merge patch.
    pub(super) fn patch(&self, path: &str, body: &str) -> Result<Answer, Failure> {
        let request = Request::patch(self.uri(path, &[])).header("content-type", "application/merge-patch+json");
        self.ask(request, Some(body.as_bytes()))
    }

    fn uri(&self, path: &str, query: &[(&str, Option<&str>)]) -> String {
        let mut uri = format!("{}{BASE}{path}", self.url);
        let given = query.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        for (n, (name, value)) in given.enumerate() {
            uri.push_str(&format!("{}{name}={}", if n == 0 { '?' } else { '&' }, segment(value)));
        }
        uri
    }

    fn authorized(&self, request: Builder) -> Builder {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn ask(&self, request: Builder, body: Option<&[u8]>) -> Result<Answer, Failure> {
        let request = self.authorized(request);
        self.answer(match body {
            Some(body) => self.agent.run(request.body(body).map_err(invalid)?),
            None => self.agent.run(request.body(()).map_err(invalid)?),
        })
    }

    fn answer(&self, response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(Answer::new(bytes, response.headers()));
        }
        // A script that asked for JSON gets the problem where it looks for the answer.
        if self.json {
            match print_raw(&bytes) {
                // That nobody reads on does not make it a success.
                Ok(()) | Err(Failure::Unread) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Failed(self.problem(response.status().as_u16(), &bytes)))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let url = &self.url;
        let nobody = match error {
            ureq::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
            _ => false,
        };
        Failure::Unreachable(if nobody {
            format!("no host answers at {url}; start one with `taskhost serve`, or say where it is with --url")
        } else {
            format!("{url} gave no answer: {error}")
        })
    }

    /// What a problem says, each complaint with its place.
    fn problem(&self, status: u16, bytes: &[u8]) -> String {
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let Some(detail) = body["detail"].as_str().or_else(|| body["title"].as_str()) else {
            return format!("{} answered {status}, but not as a Taskhost does; is --url right?", self.url);
        };
        let mut text = detail.to_owned();
        // Of a single one the detail says it all, if in other words for the place: `line 2: …`.
        let only = body["errors"].as_array().and_then(|errors| match errors.as_slice() {
            [only] => only["detail"].as_str(),
            _ => None,
        });
        let is_told = only.is_some_and(|only| detail.contains(only));
        for complaint in complaints(&body["errors"]) {
            if !is_told && !text.contains(&complaint) {
                text.push_str(&format!("\n  {complaint}"));
            }
        }
        if status == 401 && self.token.is_none() {
            text.push_str("\n  give a token with --token or TASKHOST_TOKEN");
        }
        text
    }
}

/// Each place with what is wrong there.
pub(super) fn complaints(errors: &Value) -> Vec<String> {
    let text = |error: &Value| {
        let (place, detail) = (error["pointer"].as_str()?, error["detail"].as_str()?);
        let colon = if place.is_empty() { "" } else { ": " };
        Some(format!("{place}{colon}{detail}"))
    };
    errors.as_array().into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn client(url: &str) -> Result<Client, Failure> {
        Client::new(&Options {
            url: url.into(),
            token: None,
            json: false,
        })
    }

    #[test]
    fn an_address_is_a_url() {
        for (url, expected) in [
            ("http://h:1/", "http://h:1"),
            ("", DEFAULT_URL),
            ("https://h/base", "https://h/base"),
        ] {
            assert_eq!(client(url).unwrap().url, expected);
        }
        for url in ["localhost:8080", "ftp://h", "http://", "http://h?x=1", "a b"] {
            assert!(matches!(client(url), Err(Failure::Usage(_))), "{url}");
        }
    }

    #[test]
    fn names_and_filters_are_escaped() {
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
        let uri = client("http://h").unwrap().uri(
            "/tasks",
            &[("q", None), ("tag", Some("a&b=c")), ("since", Some("2026-01-01T00:00:00+02:00"))],
        );
        assert_eq!(
            uri,
            "http://h/api/v1/scheduler/tasks?tag=a%26b%3Dc&since=2026-01-01T00%3A00%3A00%2B02%3A00"
        );
    }

    #[test]
    fn a_problem_is_told_with_its_places() {
        let client = client("http://h").unwrap();
        let body =
            br#"{"detail":"two members are wrong","errors":[{"pointer":"/a","detail":"is missing"},{"pointer":"/b","detail":"is text"}]}"#;
        assert_eq!(client.problem(400, body), "two members are wrong\n  /a: is missing\n  /b: is text");
        let one = br#"{"detail":"/a: is missing","errors":[{"pointer":"/a","detail":"is missing"}]}"#;
        assert_eq!(client.problem(400, one), "/a: is missing");
        let whole = br#"{"detail":"line 2: is no object","errors":[{"pointer":"","detail":"is no object"}]}"#;
        assert_eq!(client.problem(400, whole), "line 2: is no object");
        let place = br#"{"detail":"line 2: no such task","errors":[{"pointer":"/task_name","detail":"no such task"}]}"#;
        assert_eq!(client.problem(400, place), "line 2: no such task");
        assert!(client.problem(502, b"<html>").contains("502"));
    }

    /// A host for one request: answers with `answer` and returns what it was asked.
    fn one_request(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..read]);
                if read == 0 || asked.starts_with(b"GET") {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, asked)
    }

    #[test]
    fn a_request_carries_its_token_and_the_answer_stays_as_it_is() {
        let (url, asked) = one_request("HTTP/1.1 200 OK\r\nlink: </x?cursor=c>; rel=\"next\"\r\ncontent-length: 8\r\n\r\n[ 1.00 ]");
        let options = Options {
            url,
            token: Some(" secret\n".into()),
            json: true,
        };
        let answer = Client::new(&options).unwrap().get("/tasks", &[("q", Some("a b"))]).unwrap();
        assert_eq!(
            (answer.bytes.as_slice(), answer.next.as_deref()),
            (b"[ 1.00 ]".as_slice(), Some("c"))
        );
        let asked = asked.join().unwrap().to_lowercase();
        assert!(asked.starts_with("get /api/v1/scheduler/tasks?q=a%20b http/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: bearer secret\r\n"), "{asked}");
    }

    #[test]
    fn a_submission_is_json_and_a_problem_is_told_in_its_own_words() {
        let (url, asked) = one_request("HTTP/1.1 404 Not Found\r\ncontent-length: 26\r\n\r\n{\"detail\":\"no such thing\"}");
        match client(&url).unwrap().post("/task/submit", r#"{"task_name":"x"}"#) {
            Err(Failure::Failed(text)) => assert_eq!(text, "no such thing"),
            other => panic!("{other:?}"),
        }
        let asked = asked.join().unwrap();
        assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
        assert!(asked.ends_with(r#"{"task_name":"x"}"#), "{asked}");
    }

    #[test]
    fn where_no_host_is_it_says_how_to_start_one() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        match client(&format!("http://{closed}")).unwrap().get("/tasks", &[]) {
            Err(Failure::Unreachable(text)) => assert!(text.starts_with("no host answers at http://127.0.0.1:"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
