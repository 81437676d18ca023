//! What comes with a request, checked: JSON bodies and query parameters, with our own errors.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ApiError;

/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// A request's body as JSON of a known shape.
pub struct JsonBody<T>(pub T);

/// A request's body as it came.
pub struct RawBody(pub Bytes);

/// A request's query parameters.
pub struct Params<T>(pub T);

/// An answer in JSON, ended by a newline.
pub struct Answer<T>(pub T);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => Err(refuse_body(&rejection)),
            Err(_) => {
                let message = format!("the request's body did not arrive within {} s", BODY_WITHIN.as_secs());
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message))
            }
        }
    }
}

fn refuse_body(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request's body is over the bound");
        return error
            .hint("send less at once, or raise [http] body_bytes_max (plugins: [plugins] component_bytes_max)");
    }
    ApiError::bad_request(format!("the request's body did not arrive: {}", rejection.body_text()))
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let error =
                ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the body is not declared as JSON");
            return Err(error.hint("send the header Content-Type: application/json"));
        }
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| ApiError::bad_request(format!("the body cannot be taken: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                Err(ApiError::bad_request(format!("the query parameters cannot be taken: {}", rejection.body_text())))
            }
        }
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut body) => {
                body.push(b'\n');
                ([(CONTENT_TYPE, "application/json")], body).into_response()
            }
            Err(error) => ApiError::internal(format!("the answer cannot be written: {error}")).into_response(),
        }
    }
}
