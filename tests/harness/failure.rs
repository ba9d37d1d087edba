//! Why a test failed, and where.

use std::error::Error;
use std::fmt;
use std::panic::Location;

/// What a test, or a step of one, comes to.
pub(crate) type TestResult<T = ()> = Result<T, Failure>;

/// An error with the line whose `?` met it. It is shown as it is written, line breaks included.
pub(crate) struct Failure(String);

// === impl Failure ===

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let error: Box<dyn Error> = error.into();
        Self(format!("{}: {error}", Location::caller()))
    }
}

/// The test runner shows failures by this.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
