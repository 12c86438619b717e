//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request again gets the same answer and does nothing.
//!
//! What was answered is kept in the commit that carried the request out; a refused request may be sent again under its key.

use super::State;
use super::error::{Code, Problem};
use crate::store::{RequestKey, StoreError};
use axum::http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest key, in characters.
const MAX_KEY: usize = 255;
const HEADER: &str = "idempotency-key";

/// The keys of requests that are being carried out.
pub(crate) type InFlight = Arc<Mutex<HashSet<String>>>;

/// The key of a request under way: nobody else may use it meanwhile.
pub(crate) struct Key {
    text: String,
    hash: Sha256,
    in_flight: InFlight,
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.remove(&self.text);
    }
}

/// Refuses a key where a request is made once by other means, which `instead` says: who sends one counts on it.
pub(crate) fn refuse_key(headers: &HeaderMap, instead: &str) -> Result<(), Problem> {
    match headers.contains_key(HEADER) {
        true => Err(Problem::new(
            Code::InvalidValue,
            format!("`Idempotency-Key` is not taken here; {instead}"),
        )),
        false => Ok(()),
    }
}

impl Key {
    /// The key that the headers name, if they do.
    pub(crate) fn of(headers: &HeaderMap, method: &Method, uri: &Uri, state: &State) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let fits = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !fits || values.next().is_some() {
            let sentence = format!("`Idempotency-Key` is one text of 1 to {MAX_KEY} visible characters, such as a UUID");
            return Err(Problem::new(Code::InvalidValue, sentence));
        }
        let in_flight = state.in_flight.clone();
        if !in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
            return Err(Problem::new(
                Code::InFlight,
                "a request with this `Idempotency-Key` is being carried out; send it again in a second",
            ));
        }
        let mut hash = Sha256::new();
        for part in [method.as_str(), uri.path(), uri.query().unwrap_or_default()] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let text = text.to_owned();
        Ok(Some(Self { text, hash, in_flight }))
    }

    /// Takes in a part of the body, which makes the request what it is.
    pub(crate) fn update(&mut self, body: &[u8]) {
        self.hash.update(body);
    }

    /// What the store keeps with what the request does.
    pub(crate) fn with_answer(&self, answer: impl Into<String>) -> RequestKey {
        RequestKey {
            key: self.text.clone(),
            fingerprint: self.hash.clone().finalize().into(),
            answer: answer.into(),
        }
    }

    /// Whether a request with this key was carried out before, be it this one or another.
    pub(crate) async fn is_known(&self, state: &State) -> Result<bool, Problem> {
        match state.store.admit(self.with_answer(""), state.clock.now()).await {
            Ok(()) => Ok(false),
            Err(StoreError::Answered(_) | StoreError::KeyReused) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// What was answered when this request was carried out before.
    pub(crate) async fn answered(&self, state: &State) -> Result<Option<String>, Problem> {
        let key = self.with_answer("");
        match state.store.admit(key, state.clock.now()).await {
            Ok(()) => Ok(None),
            Err(StoreError::Answered(answer)) => Ok(Some(answer)),
            Err(error) => Err(error.into()),
        }
    }
}
