//! Generated from `wit/v2`. Private: the public face is written by hand in the other modules.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, reason = "generated code")]

/// Everything a connector may import, once for the three worlds.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        inline: r#"
            package rapidbyte:sdk;
            world imports {
                import rapidbyte:connector/types@2.0.0;
                import rapidbyte:connector/net@2.0.0;
                import rapidbyte:connector/input@2.0.0;
                import rapidbyte:connector/output@2.0.0;
                import rapidbyte:connector/progress@2.0.0;
                import rapidbyte:connector/forward@2.0.0;
                import rapidbyte:connector/acknowledge@2.0.0;
                import rapidbyte:connector/state@2.0.0;
                import rapidbyte:connector/telemetry@2.0.0;
            }
        "#,
        generate_all,
    });
}

pub mod source {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "rapidbyte:connector/rapidbyte-source",
        with: {
            "rapidbyte:connector/types@2.0.0": crate::bindings::imports::rapidbyte::connector::types,
            "rapidbyte:connector/net@2.0.0": crate::bindings::imports::rapidbyte::connector::net,
            "rapidbyte:connector/output@2.0.0": crate::bindings::imports::rapidbyte::connector::output,
            "rapidbyte:connector/progress@2.0.0": crate::bindings::imports::rapidbyte::connector::progress,
            "rapidbyte:connector/state@2.0.0": crate::bindings::imports::rapidbyte::connector::state,
            "rapidbyte:connector/telemetry@2.0.0": crate::bindings::imports::rapidbyte::connector::telemetry,
            "wasi:io/poll@0.2.6": crate::bindings::imports::wasi::io::poll,
        },
        pub_export_macro: true,
        export_macro_name: "export_source",
        default_bindings_module: "rapidbyte_sdk::__private::source",
    });
}

pub mod destination {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "rapidbyte:connector/rapidbyte-destination",
        with: {
            "rapidbyte:connector/types@2.0.0": crate::bindings::imports::rapidbyte::connector::types,
            "rapidbyte:connector/net@2.0.0": crate::bindings::imports::rapidbyte::connector::net,
            "rapidbyte:connector/input@2.0.0": crate::bindings::imports::rapidbyte::connector::input,
            "rapidbyte:connector/acknowledge@2.0.0": crate::bindings::imports::rapidbyte::connector::acknowledge,
            "rapidbyte:connector/state@2.0.0": crate::bindings::imports::rapidbyte::connector::state,
            "rapidbyte:connector/telemetry@2.0.0": crate::bindings::imports::rapidbyte::connector::telemetry,
            "wasi:io/poll@0.2.6": crate::bindings::imports::wasi::io::poll,
        },
        pub_export_macro: true,
        export_macro_name: "export_destination",
        default_bindings_module: "rapidbyte_sdk::__private::destination",
    });
}

pub mod transform {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "rapidbyte:connector/rapidbyte-transform",
        with: {
            "rapidbyte:connector/types@2.0.0": crate::bindings::imports::rapidbyte::connector::types,
            "rapidbyte:connector/input@2.0.0": crate::bindings::imports::rapidbyte::connector::input,
            "rapidbyte:connector/output@2.0.0": crate::bindings::imports::rapidbyte::connector::output,
            "rapidbyte:connector/forward@2.0.0": crate::bindings::imports::rapidbyte::connector::forward,
            "rapidbyte:connector/state@2.0.0": crate::bindings::imports::rapidbyte::connector::state,
            "rapidbyte:connector/telemetry@2.0.0": crate::bindings::imports::rapidbyte::connector::telemetry,
            "wasi:io/poll@0.2.6": crate::bindings::imports::wasi::io::poll,
        },
        pub_export_macro: true,
        export_macro_name: "export_transform",
        default_bindings_module: "rapidbyte_sdk::__private::transform",
    });
}

pub mod digest {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "rapidbyte:connector/rapidbyte-digest-ranges",
        with: {
            "rapidbyte:connector/types@2.0.0": crate::bindings::imports::rapidbyte::connector::types,
        },
        pub_export_macro: true,
        export_macro_name: "export_digest_ranges",
        default_bindings_module: "rapidbyte_sdk::__private::digest",
    });
}

pub mod dry_run {
    wit_bindgen::generate!({
        path: "../../wit/v2",
        world: "rapidbyte:connector/rapidbyte-dry-run",
        with: {
            "rapidbyte:connector/types@2.0.0": crate::bindings::imports::rapidbyte::connector::types,
        },
        pub_export_macro: true,
        export_macro_name: "export_dry_run",
        default_bindings_module: "rapidbyte_sdk::__private::dry_run",
    });
}
