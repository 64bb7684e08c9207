//! From an error's category to what is done about it: one exhaustive table.

use crate::error::{Cause, EngineError};
use rapidbyte_types::{BackoffClass, CommitState, ConnectorError, ErrorCategory};
use std::time::Duration;

/// No wait is longer, whatever a server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// The same work may succeed later.
    Backoff,
    /// Only a person can help, as the words say.
    Never(&'static str),
}

/// The table.
///
/// The category decides whether a retry makes sense at all; the error's own `retryable` can only narrow that.
pub fn policy(category: ErrorCategory) -> RetryPolicy {
    match category {
        ErrorCategory::TransientNetwork | ErrorCategory::TransientDb | ErrorCategory::RateLimit => RetryPolicy::Backoff,
        ErrorCategory::Config => RetryPolicy::Never("mend the configuration and run again"),
        ErrorCategory::Auth => RetryPolicy::Never("check user name and password"),
        ErrorCategory::Permission => RetryPolicy::Never("grant what is missing and run again"),
        ErrorCategory::Data => RetryPolicy::Never("mend the row, or leave its column out with `columns:`"),
        ErrorCategory::Schema => RetryPolicy::Never("compare the names in the pipeline with `rapidbyte discover <PIPELINE>`"),
        ErrorCategory::Internal => RetryPolicy::Never("this is a defect: please report it with the output of `--log-level debug`"),
    }
}

/// How long to wait before attempt `attempt + 1`, or `None` if there is no sense in one.
///
/// An unknown commit outcome may be retried: the next attempt claims the stream and reads the receipt back before it writes.
/// After a confirmed commit nothing is wrong with the data, and the next attempt finds it there.
pub fn wait_before_retry(error: &ConnectorError, attempt: u32, jitter: f64) -> Option<Duration> {
    let transient = match policy(error.category) {
        RetryPolicy::Backoff => error.retryable,
        RetryPolicy::Never(_) => false,
    };
    let safe = match error.commit_state {
        CommitState::BeforeCommit => error.safe_to_retry,
        CommitState::AfterCommitUnknown | CommitState::AfterCommitConfirmed => true,
    };
    if !(transient && safe) {
        return None;
    }
    let first = match error.backoff {
        BackoffClass::Fast => Duration::from_millis(200),
        BackoffClass::Normal => Duration::from_secs(1),
        BackoffClass::Slow => Duration::from_secs(10),
    };
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    // Half of the wait is by chance, so that many tasks that failed together do not come back together.
    let chance = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    let wished = error.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis);
    Some(chance.max(wished).min(LONGEST_WAIT))
}

/// Does something that changes nothing at the source and may be done twice, as often as the error's kind and `max_retries` allow.
pub(crate) async fn again<T, F>(max_retries: u32, mut act: impl FnMut() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut attempts = 1;
    let mut first: Option<String> = None;
    loop {
        let mut error = match act().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        error.attempts = attempts;
        error.first = first.clone().filter(|first| *first != error.message());
        first = first.or_else(|| Some(error.message()));
        let Some(wait) = wait_for(&error, attempts, max_retries) else { return Err(error) };
        tracing::warn!(error = %error, attempt = attempts, wait_ms = wait.as_millis() as u64, "failed, will be tried again");
        tokio::time::sleep(wait).await;
        attempts += 1;
    }
}

/// How long to wait before the next attempt, if there is to be one.
pub(crate) fn wait_for(error: &EngineError, attempts: u32, max_retries: u32) -> Option<Duration> {
    match &error.cause {
        Cause::Connector(error) if attempts <= max_retries => wait_before_retry(error, attempts, chance()),
        _ => None,
    }
}

/// A number from 0 to 1 by chance.
fn chance() -> f64 {
    f64::from((uuid::Uuid::new_v4().as_u128() >> 96) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_categories_are_retried() {
        for category in ErrorCategory::ALL {
            let mut error = ConnectorError::new(*category, "x", "x");
            // A connector that calls everything retryable can't widen the table.
            error.retryable = true;
            error.safe_to_retry = true;
            let retried = wait_before_retry(&error, 1, 0.0).is_some();
            let expected =
                matches!(category, ErrorCategory::TransientNetwork | ErrorCategory::TransientDb | ErrorCategory::RateLimit);
            assert_eq!(retried, expected, "{category}");
        }
    }

    #[test]
    fn a_connector_can_refuse_a_retry() {
        let mut error = ConnectorError::new(ErrorCategory::TransientDb, "x", "x");
        error.retryable = false;
        assert_eq!(wait_before_retry(&error, 1, 0.0), None);
    }

    #[test]
    fn waits_grow_by_class_and_attempt_and_are_bounded() {
        let mut error = ConnectorError::new(ErrorCategory::TransientNetwork, "x", "x");
        assert_eq!(wait_before_retry(&error, 1, 0.0), Some(Duration::from_millis(100)));
        assert_eq!(wait_before_retry(&error, 1, 1.0), Some(Duration::from_millis(200)));
        assert_eq!(wait_before_retry(&error, 3, 1.0), Some(Duration::from_millis(800)));
        error.backoff = BackoffClass::Slow;
        assert_eq!(wait_before_retry(&error, 60, 1.0), Some(LONGEST_WAIT));
        error.retry_after_ms = Some(20_000);
        assert_eq!(wait_before_retry(&error, 1, 0.0), Some(Duration::from_secs(20)));
        error.retry_after_ms = Some(u64::MAX);
        assert_eq!(wait_before_retry(&error, 1, 0.0), Some(LONGEST_WAIT));
    }

    #[test]
    fn an_outcome_after_the_commit_is_retried_because_the_claim_reads_it_back() {
        let retried = |commit_state| {
            let mut error = ConnectorError::new(ErrorCategory::TransientNetwork, "x", "x");
            error.commit_state = commit_state;
            error.safe_to_retry = false;
            wait_before_retry(&error, 1, 0.0).is_some()
        };
        assert!(!retried(CommitState::BeforeCommit), "only where the connector says that it is safe");
        assert!(retried(CommitState::AfterCommitUnknown));
        assert!(retried(CommitState::AfterCommitConfirmed));
    }
}
