//! One connection that asks and waits for the answer; it is kept alive between requests.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The connection.
pub(crate) struct Client(TcpStream);

/// One whole answer.
pub(crate) struct Answer {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self(stream))
    }

    /// Sends one request; `method` is the whole of it up to the version, as in `GET /healthz`. Any answer but a 200 is an error.
    pub(crate) fn ask(&mut self, method: &str, headers: &str, body: &str) -> Result<Answer> {
        self.send(method, &format!("content-type: application/json\r\n{headers}"), body)
    }

    /// Sends lines, each a JSON document.
    pub(crate) fn ask_lines(&mut self, method: &str, lines: &str) -> Result<Answer> {
        self.send(method, "content-type: application/x-ndjson\r\n", lines)
    }

    fn send(&mut self, method: &str, headers: &str, body: &str) -> Result<Answer> {
        let length = body.len();
        let request = format!("{method} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes())?;
        let mut buffer = Vec::with_capacity(4_096);
        let mut part = [0; 64 << 10];
        let head = loop {
            match self.0.read(&mut part)? {
                0 => bail!("the host hung up at {method}"),
                read => buffer.extend_from_slice(&part[..read]),
            }
            if let Some(head) = head(&buffer)? {
                break head;
            }
        };
        while buffer.len() < head.whole {
            match self.0.read(&mut part)? {
                0 => bail!("the host hung up at {method}"),
                read => buffer.extend_from_slice(&part[..read]),
            }
        }
        let body = buffer.split_off(head.end);
        if head.status != 200 {
            bail!("{method}: {} {}", head.status, String::from_utf8_lossy(&body));
        }
        Ok(Answer {
            head: String::from_utf8(buffer)?,
            body,
        })
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(&format!("GET {path}"), "", "")
    }
}

impl Answer {
    /// The path of the page after this one.
    pub(crate) fn next_page(&self) -> Option<String> {
        let link = value(&self.head, "link")?;
        Some(link.strip_prefix('<')?.split('>').next()?.to_owned())
    }
}

/// A header's value.
pub(crate) fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The head of an answer: its status, where it ends, and where the body does.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) end: usize,
    pub(crate) whole: usize,
}

/// Reads the head once it is whole.
pub(crate) fn head(buffer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..end])?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let length: usize = value(text, "content-length").context("an answer without a length")?.parse()?;
    let end = end + 4;
    Ok(Some(Head {
        status,
        end,
        whole: end + length,
    }))
}
