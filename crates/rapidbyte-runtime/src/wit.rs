//! The generated face of `wit/v2`, one set of types for all three worlds.

wasmtime::component::bindgen!({
    path: "../../wit/v2",
    inline: "
        package rapidbyte:host;
        world everything {
            import rapidbyte:connector/net@2.0.0;
            import rapidbyte:connector/output@2.0.0;
            import rapidbyte:connector/progress@2.0.0;
            import rapidbyte:connector/input@2.0.0;
            import rapidbyte:connector/forward@2.0.0;
            import rapidbyte:connector/acknowledge@2.0.0;
            import rapidbyte:connector/state@2.0.0;
            import rapidbyte:connector/telemetry@2.0.0;
            export rapidbyte:connector/source@2.0.0;
            export rapidbyte:connector/destination@2.0.0;
            export rapidbyte:connector/transform@2.0.0;
            export rapidbyte:connector/digest-ranges@2.0.0;
            export rapidbyte:connector/dry-run@2.0.0;
        }
    ",
    world: "rapidbyte:host/everything",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll,
        "rapidbyte:connector/net.tcp-stream": crate::net::TcpStream,
    },
    require_store_data_send: true,
});
