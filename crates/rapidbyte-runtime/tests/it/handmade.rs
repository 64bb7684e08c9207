//! Components made byte by byte, for what no toolchain would make: features that are off, and more than there is room for.
//!
//! The bytes are those of the core specification's binary format (`core/binary`), and of the component model's
//! (`design/mvp/Binary.md`). Each is held against a validator that allows everything, so that only what it is about can be wrong.

use crate::support::*;
use rapidbyte_config::manifest::pack;
use rapidbyte_runtime::*;
use serde_json::json;
use std::error::Error;
use std::sync::Arc;
use wasmparser::{Validator, WasmFeatures};

/// `() -> ()`, as the only type.
const TYPE: &[u8] = &[0x01, 4, 1, 0x60, 0, 0];
/// One function of that type.
const FUNCTION: &[u8] = &[0x03, 2, 1, 0];

/// A number as unsigned LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A section of so many equal entries.
fn repeated(id: u8, count: usize, entry: &[u8]) -> Vec<u8> {
    section(id, &[leb(count), entry.repeat(count)].concat())
}

/// The code of the one function, without locals.
fn code(instructions: &[u8]) -> Vec<u8> {
    let body = [&[0][..], instructions, &[0x0b]].concat();
    section(0x0a, &[&[1][..], &leb(body.len()), &body].concat())
}

/// A core module, as a section of a component.
fn module(sections: &[&[u8]]) -> Vec<u8> {
    section(0x01, &[&b"\0asm\x01\0\0\0"[..], sections.concat().as_slice()].concat())
}

fn component(sections: &[&[u8]]) -> Vec<u8> {
    let bytes = [&b"\0asm\x0d\0\x01\0"[..], sections.concat().as_slice()].concat();
    if let Err(error) = Validator::new_with_features(WasmFeatures::all()).validate_all(&bytes) {
        panic!("the bytes themselves are wrong: {error}");
    }
    bytes
}

fn load(component: &[u8]) -> Result<Arc<Connector>, HostError> {
    runtime().load(&pack(component, manifest("source").to_string().as_bytes()).expect("packed").wasm, None)
}

fn in_words(error: &HostError) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words += &format!(": {cause}");
        source = cause.source();
    }
    words
}

#[test]
fn features_that_are_off_are_refused_by_name() {
    let function = |instructions: &[u8]| module(&[TYPE, FUNCTION, &code(instructions)]);
    let plain = component(&[&function(&[]), &module(&[&[0x05, 3, 1, 0x00, 1]])]);
    assert_eq!(load(&plain).expect_err("no exports").kind(), HostErrorKind::World, "what is not off is compiled");

    for (feature, sections, says) in [
        // A memory that is shared, of one page at most.
        ("threads", module(&[&[0x05, 4, 1, 0x03, 1, 1]]), "threads must be enabled"),
        // A global that is shared.
        ("shared everything", module(&[&[0x06, 6, 1, 0x7f, 0x02, 0x41, 0, 0x0b]]), "shared-everything-threads"),
        // A structure without fields.
        ("gc", module(&[&[0x01, 3, 1, 0x5f, 0]]), "gc"),
        // A parameter that refers to functions of one type, and is never null.
        ("function references", module(&[&[0x01, 9, 2, 0x60, 0, 0, 0x60, 1, 0x64, 0, 0]]), "function references"),
        // A tag.
        ("exceptions", module(&[TYPE, &[0x0d, 3, 1, 0, 0]]), "exceptions"),
        // `try` and `catch_all`, as they were before the specification.
        ("legacy exceptions", function(&[0x06, 0x40, 0x19, 0x0b]), "legacy_exceptions"),
        // A memory with 64-bit addresses.
        ("memory64", module(&[&[0x05, 3, 1, 0x04, 1]]), "memory64 must be enabled"),
        // `i8x16.relaxed_swizzle` behind `unreachable`, which gives it its operands.
        ("relaxed SIMD", function(&[0x00, 0xfd, 0x80, 0x02, 0x1a]), "relaxed SIMD"),
        // `return_call` of itself.
        ("tail calls", function(&[0x12, 0]), "tail calls"),
        // The type of a continuation.
        ("stack switching", module(&[&[0x01, 6, 2, 0x60, 0, 0, 0x5d, 0]]), "stack switching is disabled"),
        // The component's type of a `future` of nothing.
        ("async", section(0x07, &[1, 0x65, 0]), "model async"),
    ] {
        let error = load(&component(&[&sections])).expect_err(feature);
        assert_eq!(error.kind(), HostErrorKind::NotAComponent, "{feature}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("features")), "{feature}: {:?}", error.hint());
        let words = in_words(&error);
        assert!(words.contains(says), "{feature}: {words}");
    }
}

/// Elements that all tables of an instance may have.
const ELEMENTS: usize = 1 << 20;
/// Core instances, tables and memories that it may have of each.
const COUNT: usize = 64;

/// A table of `elements` functions at first, and of so many more once it runs, or it traps.
fn table(elements: usize, more: usize) -> Vec<u8> {
    // The constant's sign is the highest bit of its last byte.
    let constant = [&leb(more | 1 << 27)[..3], &[(more >> 21) as u8]].concat();
    // ref.null func, i32.const more, table.grow, i32.const -1, i32.eq, if unreachable end
    let grow = [&[0xd0, 0x70, 0x41][..], &constant, &[0xfc, 0x0f, 0, 0x41, 0x7f, 0x46, 0x04, 0x40, 0x00, 0x0b]].concat();
    let tables = section(0x04, &[&[1, 0x70, 0x00][..], &leb(elements)].concat());
    module(&[TYPE, FUNCTION, &tables, &[0x08, 1, 0], &code(&grow)])
}

/// What a source's world exports in name, from `instances` core instances of each of these modules. What is instantiated runs
/// nothing but its start functions.
fn source(modules: &[Vec<u8>], instances: usize) -> Vec<u8> {
    let name = b"rapidbyte:connector/source@2.0.0";
    let each: Vec<u8> = (0..modules.len()).map(|index| [0x00, index as u8, 0]).flat_map(|entry| entry.repeat(instances)).collect();
    let core_instances = section(0x02, &[leb(modules.len() * instances), each].concat());
    // An instance that exports nothing, and its export.
    let instance = section(0x05, &[1, 0x01, 0]);
    let export = section(0x0b, &[&[1, 0x00, name.len() as u8][..], name, &[0x05, 0, 0]].concat());
    component(&[&modules.concat(), &core_instances, &instance, &export])
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_instances_have_an_end() {
    let open = async |component: Vec<u8>| {
        let connector = load(&component).expect("loads");
        match SourceInstance::open(&connector, &options(json!({}))).await.map(|_| ()) {
            Err(GuestError::Trap(trap)) => Some(trap),
            // It had room: what is missed is the functions of a source.
            Err(GuestError::Host(error)) if error.kind() == HostErrorKind::Protocol => None,
            other => panic!("{other:?}"),
        }
    };
    let tables = |count: usize| module(&[&repeated(0x04, count, &[0x70, 0x00, 1])]);
    let memories = |count: usize| module(&[&repeated(0x05, count, &[0x00, 0])]);
    for (what, fits) in [
        ("a table", source(&[table(ELEMENTS, 0)], 1)),
        ("a table that grows", source(&[table(ELEMENTS - 5, 5)], 1)),
        ("two tables", source(&[table(ELEMENTS / 2, 0), table(0, ELEMENTS / 2)], 1)),
        ("core instances", source(&[module(&[])], COUNT)),
        ("tables", source(&[tables(COUNT)], 1)),
        ("memories", source(&[memories(COUNT)], 1)),
    ] {
        assert_eq!(open(fits).await, None, "{what}");
    }
    for (what, exceeds, kind, says) in [
        ("a table", source(&[table(ELEMENTS + 1, 0)], 1), TrapKind::Fault, "exceeds table limits"),
        ("two tables", source(&[table(ELEMENTS / 2, 0), table(ELEMENTS / 2 + 1, 0)], 1), TrapKind::Fault, "exceeds table limits"),
        // The guest is told that it can't be; this one does not put up with it.
        ("a table that grows", source(&[table(ELEMENTS - 5, 6)], 1), TrapKind::Panic, "panicked"),
        ("two tables, one grows", source(&[table(5, 0), table(0, ELEMENTS - 4)], 1), TrapKind::Panic, "panicked"),
        ("core instances", source(&[module(&[])], COUNT + 1), TrapKind::Fault, "instance count too high"),
        ("tables", source(&[tables(COUNT + 1)], 1), TrapKind::Fault, "table count too high"),
        ("memories", source(&[memories(COUNT + 1)], 1), TrapKind::Fault, "memory count too high"),
    ] {
        let trap = open(exceeds).await.unwrap_or_else(|| panic!("{what}: there was room"));
        assert_eq!(trap.kind, kind, "{what}: {trap:?}");
        assert!(trap.message.contains(says), "{what}: {trap:?}");
    }
    unharmed().await;
}
