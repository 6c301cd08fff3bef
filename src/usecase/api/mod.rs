//! Rules of the API.
