//! Label selectors: `a=b,c in (d,e),!f`, with kube-apiserver's grammar and error texts.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::kube::limits::SELECTOR_BYTES;
use crate::kube::registry::names;
use crate::kube::status::{ApiError, quoted};

/// Requirements that all must hold. Empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Exists,
    DoesNotExist,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Reads a selector; the error text is complete.
    pub fn parse(text: &str) -> Result<LabelSelector, ApiError> {
        if text.len() > SELECTOR_BYTES {
            return Err(ApiError::bad_request(format!(
                "the label selector is longer than {SELECTOR_BYTES} bytes"
            )));
        }
        let mut parser = Parser { tokens: tokenize(text), position: 0 };
        parser.selector().map(LabelSelector).map_err(ApiError::bad_request)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            requirement.operator.holds(labels.get(&requirement.key).map(String::as_str))
        })
    }

    /// Like [`matches`](Self::matches) for labels as they lie in an object.
    pub fn matches_value(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            requirement.operator.holds(value.and_then(Value::as_str))
        })
    }
}

impl Operator {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match self {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Operator::NotIn(values) => {
                !value.is_some_and(|value| values.iter().any(|v| v == value))
            }
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// An identifier, or one of the words `in` and `notin`.
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(text) => text,
            Token::Symbol(text) => text,
            Token::End => "",
        }
    }

    /// A key or a value: any word.
    fn is_word(&self) -> bool {
        matches!(self, Token::Word(_))
    }

    fn is(&self, text: &str) -> bool {
        !matches!(self, Token::End) && self.text() == text
    }
}

const SYMBOLS: [&str; 10] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<", "\u{0}"];

fn tokenize(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            tokens.push(Token::End);
            return tokens;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
            continue;
        }
        let end = rest.find(|c: char| " \t\r\n=!,()<>\u{0}".contains(c)).unwrap_or(rest.len());
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

const PARSE: &str = "unable to parse requirement: ";

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.position).unwrap_or(&Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            let token = self.peek().clone();
            match token {
                Token::End => return Ok(requirements),
                ref start if start.is_word() || start.is("!") => {
                    let requirement =
                        self.requirement().map_err(|error| format!("{PARSE}{error}"))?;
                    requirements.push(requirement);
                    let next = self.take();
                    if next == Token::End {
                        return Ok(requirements);
                    }
                    if !next.is(",") {
                        return Err(format!(
                            "found '{}', expected: ',' or 'end of string'",
                            next.text()
                        ));
                    }
                    let after = self.peek();
                    if !(after.is_word() || after.is("!")) {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            after.text()
                        ));
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek().is("!");
        if negated {
            self.take();
        }
        let token = self.take();
        if !token.is_word() {
            return Err(format!("found '{}', expected: identifier", token.text()));
        }
        let key = token.text().to_owned();
        check_key(&key)?;
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist });
        }
        if *self.peek() == Token::End || self.peek().is(",") {
            return Ok(Requirement { key, operator: Operator::Exists });
        }
        let operator = self.operator(&key)?;
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self, key: &str) -> Result<Operator, String> {
        let token = self.take();
        let operator = match token.text() {
            "in" => Operator::In(self.set(key)?),
            "notin" => Operator::NotIn(self.set(key)?),
            "=" | "==" => Operator::In(vec![self.exact_value(key)?]),
            "!=" => Operator::NotIn(vec![self.exact_value(key)?]),
            ">" => Operator::GreaterThan(self.number()?),
            "<" => Operator::LessThan(self.number()?),
            other => {
                return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok(operator)
    }

    fn number(&mut self) -> Result<i64, String> {
        let text = self.plain_value()?;
        text.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                quoted(&text)
            )
        })
    }

    fn exact_value(&mut self, key: &str) -> Result<String, String> {
        let value = self.plain_value()?;
        check_value(key, 0, &value)?;
        Ok(value)
    }

    /// A single value; an empty one when the requirement ends here.
    fn plain_value(&mut self) -> Result<String, String> {
        if *self.peek() == Token::End || self.peek().is(",") {
            return Ok(String::new());
        }
        let token = self.take();
        if token.is_word() {
            Ok(token.text().to_owned())
        } else {
            Err(format!("found '{}', expected: identifier", token.text()))
        }
    }

    /// `(a,b,c)`
    fn set(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.take();
        if !open.is("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = Vec::new();
        loop {
            let token = self.take();
            if token.is_word() {
                values.push(token.text().to_owned());
                let separator = self.take();
                if separator.is(")") {
                    break;
                }
                if !separator.is(",") {
                    return Err(format!("found '{}', expected: ',' or ')'", separator.text()));
                }
                if self.peek().is(")") {
                    values.push(String::new());
                }
            } else if token.is(",") {
                values.push(String::new());
                if self.peek().is(")") {
                    values.push(String::new());
                }
            } else if token.is(")") {
                if values.is_empty() {
                    values.push(String::new());
                }
                break;
            } else {
                return Err(format!("found '{}', expected: ',', ')' or identifier", token.text()));
            }
        }
        values.sort();
        values.dedup();
        for (index, value) in values.iter().enumerate() {
            check_value(key, index, value)?;
        }
        Ok(values)
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match names::qualified_name(key).first() {
        Some(why) => Err(format!("<nil>: Invalid value: {}: {why}", quoted(key))),
        None => Ok(()),
    }
}

fn check_value(key: &str, index: usize, value: &str) -> Result<(), String> {
    match names::label_value(value).first() {
        Some(why) => {
            Err(format!("values[{index}][{key}]: Invalid value: {}: {why}", quoted(value)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LabelSelector::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn selectors_select() {
        let web = [("app", "web"), ("n", "5")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = db", false),
            ("app!=db", true),
            ("nope!=x", true),
            ("app", true),
            ("!app", false),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("nope in ()", false),
            ("app=", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app>1", false),
            ("app,!nope,n=5", true),
        ] {
            assert_eq!(matches(selector, &web), expected, "{selector}");
        }
    }

    #[test]
    fn refusals_have_the_recorded_texts() {
        for (selector, expected) in [
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("!!a", "unable to parse requirement: found '!', expected: identifier"),
            ("app=bad value", "found 'value', expected: ',' or 'end of string'"),
            (
                "app exists",
                "unable to parse requirement: found 'exists', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "-a=b",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            let error = LabelSelector::parse(selector).unwrap_err();
            assert_eq!(error.status().message, expected, "{selector}");
        }
    }
}
