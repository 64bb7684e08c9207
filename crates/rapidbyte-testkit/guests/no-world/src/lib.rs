//! A good component of another world.

wit_bindgen::generate!({
    inline: "
        package elsewhere:thing@1.0.0;
        interface greet { hello: func() -> string; }
        world thing { export greet; }
    ",
});

struct Thing;

impl exports::elsewhere::thing::greet::Guest for Thing {
    fn hello() -> String {
        "hello".into()
    }
}

export!(Thing);
