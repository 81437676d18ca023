//! Work that reads the disk runs beside the threads that serve sockets.

use super::ApiError;

/// Runs `work` on a thread that may block.
///
/// # Errors
/// Its own, or that it panicked.
pub async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ApiError::internal(format!("the call broke off: {error}"))),
    }
}
