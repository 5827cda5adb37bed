//! Client credentials at the demo tenant: rotating secrets, certificates and signed assertions.

use super::setup::{json_of, text};
use reqwest::{Response, StatusCode};

mod assertions;
mod certificates;
mod secrets;

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

/// The error and the description of a 401 response.
async fn refusal(response: Response) -> (String, String) {
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let answer = json_of(response).await;
    (text(&answer["error"]), text(&answer["error_description"]))
}

fn uaa(description: &str) -> (String, String) {
    ("unauthorized".to_owned(), description.to_owned())
}
