//! Arrays: `{1,NULL,"a \"b\""}`, nested for several dimensions, with `[0:2]=` where a dimension does not begin at 1.

use super::{ascii, bad, send_form};
use crate::decode::ValueError;
use crate::types::Kind;

/// As the server.
const MAX_DIMENSIONS: usize = 6;

fn malformed() -> ValueError {
    bad("an array is malformed")
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Sizes found so far, from the outermost dimension.
    sizes: Vec<i32>,
    /// Which of them are final.
    closed: Vec<bool>,
    /// The depth of the elements, once there is one.
    leaf: Option<usize>,
    elements: Vec<u8>,
    has_nulls: bool,
}

/// `[1:2][0:3]=`: the lower bounds, and what follows.
fn bounds(text: &[u8]) -> Result<(Vec<i32>, &[u8]), ValueError> {
    if text.first() != Some(&b'[') {
        return Ok((Vec::new(), text));
    }
    let end = text.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
    let mut lower = Vec::new();
    for part in ascii(&text[..end])?.split(']').filter(|part| !part.is_empty()) {
        let (low, _) = part.strip_prefix('[').and_then(|part| part.split_once(':')).ok_or_else(malformed)?;
        lower.push(low.parse().map_err(|_| malformed())?);
    }
    if lower.len() > MAX_DIMENSIONS {
        return Err(malformed());
    }
    Ok((lower, &text[end + 1..]))
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Result<(), ValueError> {
        if self.peek() != Some(byte) {
            return Err(malformed());
        }
        self.at += 1;
        Ok(())
    }

    /// `{…}` of a dimension.
    fn dimension(&mut self, depth: usize, element: &Kind, element_oid: u32) -> Result<(), ValueError> {
        if depth >= MAX_DIMENSIONS {
            return Err(malformed());
        }
        self.eat(b'{')?;
        if self.sizes.len() == depth {
            self.sizes.push(0);
            self.closed.push(false);
        }
        let mut size = 0_i32;
        loop {
            match self.peek() {
                Some(b'{') if self.leaf.is_none_or(|leaf| leaf > depth) => self.dimension(depth + 1, element, element_oid)?,
                Some(b'}') if size == 0 && depth == 0 => break,
                _ if *self.leaf.get_or_insert(depth) != depth || self.sizes.len() > depth + 1 => return Err(malformed()),
                _ => self.element(element, element_oid)?,
            }
            size = size.checked_add(1).ok_or_else(malformed)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(malformed()),
            }
        }
        self.eat(b'}')?;
        if self.closed[depth] && self.sizes[depth] != size {
            return Err(malformed());
        }
        self.sizes[depth] = size;
        self.closed[depth] = true;
        Ok(())
    }

    fn element(&mut self, element: &Kind, element_oid: u32) -> Result<(), ValueError> {
        let mut value = Vec::new();
        let quoted = self.peek() == Some(b'"');
        if quoted {
            self.at += 1;
        }
        loop {
            match self.peek().ok_or_else(malformed)? {
                b'"' if quoted => {
                    self.at += 1;
                    break;
                }
                b',' | b'}' if !quoted => break,
                b'{' | b'"' if !quoted => return Err(malformed()),
                b'\\' => {
                    self.at += 1;
                    value.push(self.peek().ok_or_else(malformed)?);
                }
                byte => value.push(byte),
            }
            self.at += 1;
        }
        if !quoted && value.is_empty() {
            return Err(malformed());
        }
        if !quoted && value == b"NULL" {
            self.has_nulls = true;
            self.elements.extend_from_slice(&(-1_i32).to_be_bytes());
            return Ok(());
        }
        let start = self.elements.len();
        self.elements.extend_from_slice(&[0; 4]);
        send_form(element, element_oid, &value, &mut self.elements)?;
        let length = i32::try_from(self.elements.len() - start - 4).map_err(|_| malformed())?;
        self.elements[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

pub(super) fn array(element: &Kind, element_oid: u32, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (lower, text) = bounds(text)?;
    let mut parser =
        Parser { text, at: 0, sizes: Vec::new(), closed: Vec::new(), leaf: None, elements: Vec::new(), has_nulls: false };
    parser.dimension(0, element, element_oid)?;
    if parser.at != text.len() {
        return Err(malformed());
    }
    let empty = parser.sizes == [0];
    let dimensions = if empty { 0 } else { parser.sizes.len() };
    if !lower.is_empty() && lower.len() != dimensions {
        return Err(malformed());
    }
    out.extend_from_slice(&(dimensions as i32).to_be_bytes());
    out.extend_from_slice(&i32::from(parser.has_nulls).to_be_bytes());
    out.extend_from_slice(&element_oid.to_be_bytes());
    for (index, size) in parser.sizes.iter().take(dimensions).enumerate() {
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&lower.get(index).copied().unwrap_or(1).to_be_bytes());
    }
    out.extend_from_slice(&parser.elements);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Result<Vec<u8>, ValueError> {
        let mut out = Vec::new();
        array(&Kind::Text, 25, text.as_bytes(), &mut out)?;
        Ok(out)
    }

    fn wanted(nulls: i32, bounds: &[(i32, i32)], elements: &[Option<&str>]) -> Vec<u8> {
        let mut out = (bounds.len() as i32).to_be_bytes().to_vec();
        out.extend(nulls.to_be_bytes());
        out.extend(25_u32.to_be_bytes());
        for (size, lower) in bounds {
            out.extend(size.to_be_bytes());
            out.extend(lower.to_be_bytes());
        }
        for element in elements {
            out.extend(element.map_or(-1, |text| text.len() as i32).to_be_bytes());
            out.extend(element.unwrap_or_default().as_bytes());
        }
        out
    }

    #[test]
    fn arrays_of_every_shape_are_read() {
        assert_eq!(sent("{}"), Ok(wanted(0, &[], &[])));
        assert_eq!(sent("{a,NULL,\"NULL\",\"\"}"), Ok(wanted(1, &[(4, 1)], &[Some("a"), None, Some("NULL"), Some("")])));
        assert_eq!(sent(r#"{"q\"\\,{}",b c}"#), Ok(wanted(0, &[(2, 1)], &[Some("q\"\\,{}"), Some("b c")])));
        assert_eq!(sent("{{a,b},{c,d}}"), Ok(wanted(0, &[(2, 1), (2, 1)], &[Some("a"), Some("b"), Some("c"), Some("d")])));
        assert_eq!(sent("[0:1]={a,b}"), Ok(wanted(0, &[(2, 0)], &[Some("a"), Some("b")])));
        assert_eq!(sent("[-1:0][5:5]={{a},{b}}"), Ok(wanted(0, &[(2, -1), (1, 5)], &[Some("a"), Some("b")])));
    }

    #[test]
    fn malformed_arrays_are_refused() {
        for text in [
            "",
            "{",
            "}",
            "a",
            "{a",
            "{a}}",
            "{a,}",
            "{{a},b}",
            "{a,{b}}",
            "{{a,b},{c}}",
            "{\"a}",
            "{a\\",
            "[1:2]={}",
            "[x]={a}",
            "{{{{{{{a}}}}}}}",
            "{,}",
            "[0:0]",
        ] {
            assert!(sent(text).is_err(), "{text}");
        }
    }
}
