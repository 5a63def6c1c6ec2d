//! How a message is described: its fields by number, name and kind, as data.

/// A message's fields, in the order in which they are written.
#[derive(Debug)]
pub(super) struct Shape(pub(super) &'static [Field]);

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u32,
    /// As in the published API: `range_end`, `ID`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// The group, by its full name, of which a message may have one member.
    pub(super) oneof: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    Enum(&'static Names),
    Message(&'static Shape),
}

/// An enumeration: the name of each number from 0 on.
pub(super) type Names = [&'static str];

impl Shape {
    /// The field of a JSON member: its published name or the same in lower camel case.
    pub(super) fn named(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|field| field.name == name || is_camel(name, field.name))
    }

    pub(super) fn numbered(&self, number: u32) -> Option<&'static Field> {
        self.0.iter().find(|field| field.number == number)
    }
}

/// Whether `name` is `published` in lower camel case.
fn is_camel(name: &str, published: &str) -> bool {
    camel(published).eq(name.chars())
}

/// `range_end` as `rangeEnd`, letter by letter; `ID` stays.
pub(super) fn camel(published: &str) -> impl Iterator<Item = char> {
    let mut after_underscore = false;
    published.chars().filter_map(move |letter| {
        let upper = std::mem::replace(&mut after_underscore, letter == '_');
        match letter {
            '_' => None,
            letter if upper => Some(letter.to_ascii_uppercase()),
            letter => Some(letter),
        }
    })
}

impl Field {
    const fn new(number: u32, name: &'static str, kind: Kind) -> Field {
        Field { number, name, kind, repeated: false, oneof: None }
    }

    /// The same, any number of times.
    pub(super) const fn repeated(self) -> Field {
        Field { repeated: true, ..self }
    }

    /// The same, as one of a group.
    pub(super) const fn one_of(self, group: &'static str) -> Field {
        Field { oneof: Some(group), ..self }
    }
}

pub(super) const fn bool(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Bool)
}

pub(super) const fn int64(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Int64)
}

pub(super) const fn uint32(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Uint32)
}

pub(super) const fn uint64(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Uint64)
}

pub(super) const fn string(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::String)
}

pub(super) const fn bytes(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Bytes)
}

pub(super) const fn names(number: u32, name: &'static str, names: &'static Names) -> Field {
    Field::new(number, name, Kind::Enum(names))
}

pub(super) const fn message(number: u32, name: &'static str, shape: &'static Shape) -> Field {
    Field::new(number, name, Kind::Message(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_two_names() {
        static SHAPE: Shape =
            Shape(&[bytes(1, "range_end"), int64(2, "ID"), int64(3, "grantedTTL")]);
        for (name, number) in [
            ("range_end", Some(1)),
            ("rangeEnd", Some(1)),
            ("rangeend", None),
            ("RangeEnd", None),
            ("range_End", None),
            ("ID", Some(2)),
            ("id", None),
            ("grantedTTL", Some(3)),
            ("", None),
        ] {
            assert_eq!(SHAPE.named(name).map(|field| field.number), number, "{name}");
        }
    }
}
