//! The middleware at the end user: language, compiler, replay, upload.
