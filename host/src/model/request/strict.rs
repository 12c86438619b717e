//! A reader around the reader of JSON. Serde reads an object from a list too, member by member in their order, and says what it expects in
//! the names of our types; serde_json takes a number where a word belongs for no JSON at all. Around it an object is an object, a word is
//! one of its words, and each refusal of a type is a sentence for whoever wrote the request.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Display, Formatter};

/// Begins what is expected where the reader of JSON tells that itself, in a sentence that begins with what it found.
pub(super) const MARK: char = '\u{1}';

/// A deserializer, or one of its parts, whose types are asked for strictly.
pub(super) struct Strict<T>(pub(super) T);

/// What a type asks for.
#[derive(Clone, Copy)]
enum Kind {
    Any,
    Truth,
    Whole { from: Option<i64>, to: Option<i64> },
    Number,
    Text,
    Word(&'static [&'static str]),
    List,
    Object,
}

const fn whole(from: i64, to: i64) -> Kind {
    Kind::Whole {
        from: Some(from),
        to: Some(to),
    }
}

impl Display for Kind {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => out.write_str("must be something else"),
            Self::Truth => out.write_str("must be true or false"),
            Self::Whole {
                from: Some(from),
                to: Some(to),
            } => write!(out, "must be a whole number from {from} to {to}"),
            Self::Whole { from: Some(from), .. } => write!(out, "must be a whole number, {from} or more"),
            Self::Whole { .. } => out.write_str("must be a whole number"),
            Self::Number => out.write_str("must be a number"),
            Self::Text => out.write_str("must be text"),
            Self::Word(words) => write!(out, "must be one of {}", words.join(", ")),
            Self::List => out.write_str("must be a list"),
            Self::Object => out.write_str("must be a JSON object"),
        }
    }
}

macro_rules! ask {
    ($($method:ident $kind:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Told { visitor, kind: $kind })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    ask! {
        deserialize_any Kind::Any;
        deserialize_ignored_any Kind::Any;
        deserialize_identifier Kind::Any;
        deserialize_option Kind::Any;
        deserialize_unit Kind::Any;
        deserialize_bytes Kind::Any;
        deserialize_byte_buf Kind::Any;
        deserialize_bool Kind::Truth;
        deserialize_i8 whole(i8::MIN.into(), i8::MAX.into());
        deserialize_i16 whole(i16::MIN.into(), i16::MAX.into());
        deserialize_i32 whole(i32::MIN.into(), i32::MAX.into());
        deserialize_i64 Kind::Whole { from: None, to: None };
        deserialize_i128 Kind::Whole { from: None, to: None };
        deserialize_u8 whole(0, u8::MAX.into());
        deserialize_u16 whole(0, u16::MAX.into());
        deserialize_u32 whole(0, u32::MAX.into());
        deserialize_u64 Kind::Whole { from: Some(0), to: None };
        deserialize_u128 Kind::Whole { from: Some(0), to: None };
        deserialize_f32 Kind::Number;
        deserialize_f64 Kind::Number;
        deserialize_char Kind::Text;
        deserialize_str Kind::Text;
        deserialize_string Kind::Text;
        deserialize_seq Kind::List;
        deserialize_map Kind::Object;
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Told { visitor, kind: Kind::Any })
    }

    /// This is also how raw JSON is asked for, which is nobody's type to check.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        if name.starts_with('$') {
            return self.0.deserialize_newtype_struct(name, visitor);
        }
        self.0.deserialize_newtype_struct(name, Told { visitor, kind: Kind::Any })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, Told { visitor, kind: Kind::List })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, name: &'static str, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        let kind = Kind::List;
        self.0.deserialize_tuple_struct(name, length, Told { visitor, kind })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let kind = Kind::Object;
        self.0.deserialize_struct(name, members, Told { visitor, kind })
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, words: &'static [&'static str], visitor: V) -> Result<V::Value, D::Error> {
        let kind = Kind::Word(words);
        self.0.deserialize_str(Told {
            visitor: Word { visitor, words },
            kind,
        })
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// A visitor that tells what it was asked for.
struct Told<V> {
    visitor: V,
    kind: Kind,
}

macro_rules! hand_on {
    ($($method:ident $type:ty;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value).map_err(|error| self.kind.instead_of(error))
        })*
    };
}

impl Kind {
    fn instead_of<E: Error>(self, error: E) -> E {
        match self {
            Self::Any => error,
            kind => E::custom(kind),
        }
    }

    /// Text where text belongs was refused for what it says, and with a better sentence.
    fn instead_of_text<E: Error>(self, error: E) -> E {
        match self {
            Self::Text => error,
            kind => kind.instead_of(error),
        }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Told<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Any => self.visitor.expecting(out),
            kind => write!(out, "{MARK}{kind}"),
        }
    }

    hand_on! {
        visit_bool bool;
        visit_i64 i64;
        visit_i128 i128;
        visit_u64 u64;
        visit_u128 u128;
        visit_f64 f64;
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.visitor.visit_str(text).map_err(|error| self.kind.instead_of_text(error))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        let kind = self.kind;
        self.visitor.visit_borrowed_str(text).map_err(|error| kind.instead_of_text(error))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        self.visitor.visit_string(text).map_err(|error| self.kind.instead_of_text(error))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit().map_err(|error| self.kind.instead_of(error))
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none().map_err(|error| self.kind.instead_of(error))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        match self.kind {
            Kind::Any | Kind::List => self.visitor.visit_seq(Strict(items)),
            kind => Err(A::Error::custom(kind)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        match self.kind {
            Kind::Any | Kind::Object => self.visitor.visit_map(Strict(members)),
            kind => Err(A::Error::custom(kind)),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(data)
    }
}

/// Reads one of some words.
struct Word<V> {
    visitor: V,
    words: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut Formatter<'_>) -> fmt::Result {
        Kind::Word(self.words).fmt(out)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        if !self.words.contains(&text) {
            return Err(E::unknown_variant(text, self.words));
        }
        self.visitor.visit_enum(StrDeserializer::new(text))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests;
