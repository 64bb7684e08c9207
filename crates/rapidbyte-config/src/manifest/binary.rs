//! The sections of a component file, read without trust.

use super::error::{ManifestError, ManifestErrorKind};

/// The custom section that carries the manifest, last in the file.
pub const MANIFEST_SECTION: &str = "rapidbyte:manifest";

/// A component larger than this is refused.
pub const MAX_COMPONENT_BYTES: usize = 256 << 20;

const MAGIC: &[u8; 4] = b"\0asm";
/// Version 13 of the component model's binary format, layer 1.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CUSTOM_SECTION: u8 = 0;
/// The highest section id of the component model's binary format (`value`).
const LAST_SECTION: u8 = 12;

/// A component file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked<'a> {
    /// The component without the manifest section; its checksum is over these bytes.
    pub component: &'a [u8],
    /// The manifest's bytes, when the file carries one.
    pub manifest: Option<&'a [u8]>,
}

/// Takes a component file apart. The sections' frames are checked to the end of the file, their insides are not.
///
/// # Errors
/// When the bytes are not a component, end early, or carry a manifest anywhere but last.
pub fn unpack(bytes: &[u8]) -> Result<Unpacked<'_>, ManifestError> {
    check_header(bytes)?;
    let mut at = 8;
    let mut found: Option<(usize, &[u8])> = None;
    while at < bytes.len() {
        if found.is_some() {
            return Err(malformed(at, "a section follows the manifest"));
        }
        let start = at;
        let id = bytes[at];
        if id > LAST_SECTION {
            return Err(malformed(start, &format!("there is no section {id}")));
        }
        at += 1;
        let size = read_u32(bytes, &mut at).ok_or_else(|| malformed(start, "a section's size can't be read"))?;
        let end = at.checked_add(size).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| malformed(start, "a section is longer than the file"))?;
        if id == CUSTOM_SECTION {
            let payload = &bytes[at..end];
            let mut inner = 0;
            let name_size = read_u32(payload, &mut inner).ok_or_else(|| malformed(start, "a section's name can't be read"))?;
            let name_end = inner.checked_add(name_size).filter(|end| *end <= payload.len());
            let name_end = name_end.ok_or_else(|| malformed(start, "a name is longer than its section"))?;
            if payload[inner..name_end] == *MANIFEST_SECTION.as_bytes() {
                found = Some((start, &payload[name_end..]));
            }
        }
        at = end;
    }
    Ok(match found {
        Some((start, manifest)) => Unpacked { component: &bytes[..start], manifest: Some(manifest) },
        None => Unpacked { component: bytes, manifest: None },
    })
}

fn check_header(bytes: &[u8]) -> Result<(), ManifestError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(ManifestError::new(
            ManifestErrorKind::TooLarge,
            format!("the component has {} bytes, more than {MAX_COMPONENT_BYTES}", bytes.len()),
        ));
    }
    if bytes.len() < 8 || bytes[..4] != *MAGIC {
        return Err(ManifestError::new(ManifestErrorKind::NotWasm, "not a WebAssembly file")
            .with_hint(
                "build the connector with `cargo build --release --target wasm32-wasip2`, then pack it with `rapidbyte connectors pack .`, \
                 both in its project",
            ));
    }
    if bytes[4..8] == COMPONENT {
        return Ok(());
    }
    // The two bytes after the version are the layer: 0 is a core module.
    if bytes[6..8] == [0, 0] {
        return Err(ManifestError::new(ManifestErrorKind::CoreModule, "a core module, not a component")
            .with_hint("build for `wasm32-wasip2`, whose linker makes a component"));
    }
    Err(ManifestError::new(ManifestErrorKind::NotWasm, "not a WebAssembly component of a known version"))
}

fn malformed(at: usize, message: &str) -> ManifestError {
    ManifestError::new(ManifestErrorKind::Malformed, format!("the component is damaged: at byte {at} {message}"))
        .with_hint("the file may be cut off; build or fetch it again")
}

/// An unsigned LEB128 number of at most 32 bits.
fn read_u32(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value: u64 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().and_then(|value| usize::try_from(value).ok());
        }
    }
    None
}

fn write_u32(mut value: u32, out: &mut Vec<u8>) {
    loop {
        let byte = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// A custom section of the component's own level.
pub(super) fn custom_section(name: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(payload.len() + name.len() + 5);
    write_u32(u32::try_from(name.len()).ok()?, &mut content);
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(payload);
    let mut section = vec![CUSTOM_SECTION];
    write_u32(u32::try_from(content.len()).ok()?, &mut section);
    section.append(&mut content);
    Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_as_written() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            write_u32(value, &mut bytes);
            let mut at = 0;
            assert_eq!(read_u32(&bytes, &mut at), usize::try_from(value).ok());
            assert_eq!(at, bytes.len());
        }
        assert_eq!(read_u32(&[0xff, 0xff, 0xff, 0xff, 0x7f], &mut 0), None, "more than 32 bits");
        assert_eq!(read_u32(&[0x80; 6], &mut 0), None, "no end");
    }
}
