//! The listener: HTTP/1.1 with a bound on everything that a client could stretch.

use super::linger::Linger;
use super::{State, router};
use bytesize::ByteSize;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// `[server]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Connections at once; more wait until one ends.
    pub max_connections: usize,
    /// Seconds for the head of a request to arrive, and for an idle connection to be kept.
    pub header_timeout: f64,
    /// Seconds for a body to arrive.
    pub body_timeout: f64,
    /// Seconds for a client to take some of an answer.
    pub write_timeout: f64,
    /// Bytes of large bodies that are worked on at once; one more has to come again.
    pub body_budget: ByteSize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: ByteSize,
    /// Seconds that requests under way may take at shutdown.
    pub shutdown_timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 1024,
            header_timeout: 10.0,
            body_timeout: 60.0,
            write_timeout: 30.0,
            body_budget: ByteSize::mib(256),
            max_headers: 64,
            max_header_bytes: ByteSize::kib(64),
            shutdown_timeout: 10.0,
        }
    }
}

impl Options {
    /// What each key means, for `serve --print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        ("listen", "Where to listen."),
        ("max_connections", "Connections at once; more wait until one ends."),
        (
            "header_timeout",
            "Seconds for the head of a request to arrive, and for an idle connection to be kept.",
        ),
        ("body_timeout", "Seconds for a body to arrive."),
        ("write_timeout", "Seconds for a client to take some of an answer."),
        (
            "body_budget",
            "Bytes of large bodies that are worked on at once; one more has to come again.",
        ),
        ("max_headers", "Headers of a request."),
        ("max_header_bytes", "Bytes of a request's head."),
        (
            "shutdown_timeout",
            "Seconds that requests under way may take when the host is stopped.",
        ),
    ];

    /// Says what cannot be served so, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        if !self.listen.ip().is_loopback() {
            return Err(format!(
                "server.listen is {}, which others can reach, and no tokens are configured; this version only listens on loopback \
                 addresses such as 127.0.0.1:8080",
                self.listen
            ));
        }
        let seconds = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("shutdown_timeout", self.shutdown_timeout),
        ];
        for (name, value) in seconds {
            if !(0.1..=3600.0).contains(&value) {
                return Err(format!("server.{name} is {value}; it must be 0.1 to 3600 seconds"));
            }
        }
        let sizes = [
            ("max_connections", self.max_connections as u64, 1, 65_536),
            ("body_budget", self.body_budget.as_u64(), 64 << 20, 1 << 40),
            ("max_headers", self.max_headers as u64, 16, 1_024),
            ("max_header_bytes", self.max_header_bytes.as_u64(), 8 << 10, 1 << 20),
        ];
        for (name, value, low, high) in sizes {
            if !(low..=high).contains(&value) {
                return Err(format!("server.{name} is {value}; it must be {low} to {high}"));
            }
        }
        Ok(())
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.body_timeout)
    }
}

/// Serves the API on `listener` until `shutdown` resolves; then lets requests under way end.
pub async fn serve(listener: TcpListener, state: State, shutdown: impl Future<Output = ()>) -> std::io::Result<()> {
    let options = state.options().clone();
    let connections = Arc::new(Semaphore::new(options.max_connections));
    let service = TowerToHyperService::new(router(state.clone()));
    let http = protocol(&options);
    let write_timeout = Duration::from_secs_f64(options.write_timeout);
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: asking again at once would only burn the processor.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(Linger::new(stream, write_timeout)), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(permit);
        });
    }
    drop(listener);
    state.stop();
    let patience = Duration::from_secs_f64(options.shutdown_timeout);
    if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end within {} s of the shutdown", options.shutdown_timeout);
    }
    Ok(())
}

/// HTTP/1.1 within the options' bounds.
fn protocol(options: &Options) -> http1::Builder {
    let head = usize::try_from(options.max_header_bytes.as_u64()).unwrap_or(usize::MAX);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs_f64(options.header_timeout))
        .max_headers(options.max_headers)
        .max_header_size(head)
        // The buffer alone is no bound on the head: it only grows no further.
        .max_buf_size(head.max(64 << 10));
    http
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_tokens() {
        let with = |listen: &str| {
            Options {
                listen: listen.parse().unwrap(),
                ..Options::default()
            }
            .check()
        };
        assert!(with("127.0.0.1:0").is_ok() && with("[::1]:8080").is_ok());
        assert!(with("0.0.0.0:8080").unwrap_err().contains("loopback"));
        assert!(with("192.168.1.5:8080").is_err());
    }
}
