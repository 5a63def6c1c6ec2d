//! The query of a request: parameters by name, in order, with repeats.

use super::path::percent_decode;
use crate::kube::status::ApiError;

/// Parsed parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Query {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Like [`get`](Self::get), absent and empty being the same.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number; absent and empty are `None`.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse::<i64>().map(Some).map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })
    }

    /// As kube-apiserver reads booleans: absent is `None`, `false` and `0` are false, anything
    /// else, the empty string too, is true.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name).map(|text| !(text == "0" || text.eq_ignore_ascii_case("false")))
    }
}

fn decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let query = Query::parse("watch&limit=5&labelSelector=a%3D%3Db+&dryRun=All&dryRun=x");
        assert_eq!(query.boolean("watch"), Some(true));
        assert_eq!(query.boolean("absent"), None);
        assert_eq!(query.integer("limit"), Ok(Some(5)));
        assert_eq!(query.text("labelSelector"), "a==b ");
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "x"]);
        assert_eq!(Query::parse("watch=false").boolean("watch"), Some(false));
    }

    #[test]
    fn numbers_that_are_none() {
        let error = Query::parse("limit=abc").integer("limit").unwrap_err();
        assert_eq!(error.status().message, "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert_eq!(error.code().as_u16(), 400);
    }
}
