;; A guard that misbehaves on request: the first byte of a command's payload says
;; how. Written by hand, so that the tests need no Wasm toolchain.
;;
;;   T trap   P log an error, then trap   L loop for ever   B take all memory
;;   D deny                 V deny with a reason of 1,000 bytes
;;   W rewrite: the payload without its first byte
;;   O rewrite with more bytes than a command can have
;;   N rewrite: one byte, which counts the calls of this instance
;;   S read the state that `hostile` keeps under the rest of the payload; deny
;;     with the first value as the reason, allow where there is none
;;   U read the state of a plugin that was not granted     else: allow
;;
;; Settings: any makes `init` fail.
(module
  (import "edgeway:plugin/plugin-state@1.1.0" "read" (func $read (param i32 i32 i32 i32 i32)))
  (import "edgeway:plugin/host@1.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 64)
  (data (i32.const 64) "hostile")
  (data (i32.const 80) "secret")
  (data (i32.const 96) "told so")
  (data (i32.const 112) "no settings wanted")
  (data (i32.const 160) "panicked at x")

  (global $next (mut i32) (i32.const 65536))
  (global $calls (mut i32) (i32.const 0))

  ;; Takes bytes from the end of what is in use; all is given back after a call.
  (func $take (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $bytes)))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $more)))
    (local.get $at))

  (func (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
    (call $take (local.get $bytes)))

  (func (export "edgeway:plugin/guard@1.1.0#init") (param i32) (param $settings i32) (result i32)
    (i32.store8 (i32.const 16) (i32.ne (local.get $settings) (i32.const 0)))
    (i32.store (i32.const 20) (i32.const 112))
    (i32.store (i32.const 24) (i32.const 18))
    (i32.const 16))

  (func (export "cabi_post_edgeway:plugin/guard@1.1.0#judge") (param i32)
    (global.set $next (i32.const 65536)))

  ;; A verdict: 0 allow, 1 deny, 2 rewrite, with a text or bytes.
  (func $say (param $verdict i32) (param $text i32) (param $bytes i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $verdict))
    (i32.store (i32.const 20) (local.get $text))
    (i32.store (i32.const 24) (local.get $bytes))
    (i32.const 16))

  (func $say_x (param $verdict i32) (param $bytes i32) (result i32)
    (memory.fill (i32.const 4096) (i32.const 0x78) (local.get $bytes))
    (call $say (local.get $verdict) (i32.const 4096) (local.get $bytes)))

  (func (export "edgeway:plugin/guard@1.1.0#judge")
    (param i32 i32 i32 i32 i32 i32) (param $payload i32) (param $bytes i32) (param i32 i32 i32) (result i32)
    (local $what i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (local.get $bytes) (then (local.set $what (i32.load8_u (local.get $payload)))))
    (if (i32.eq (local.get $what) (i32.const 0x54)) (then unreachable))
    (if (i32.eq (local.get $what) (i32.const 0x50)) (then
      (call $log (i32.const 4) (i32.const 160) (i32.const 13))
      unreachable))
    (if (i32.eq (local.get $what) (i32.const 0x4c)) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $what) (i32.const 0x42)) (then
      (loop $more (drop (call $take (i32.const 0x100000))) (br $more))))
    (if (i32.eq (local.get $what) (i32.const 0x44)) (then
      (return (call $say (i32.const 1) (i32.const 96) (i32.const 7)))))
    (if (i32.eq (local.get $what) (i32.const 0x56)) (then
      (return (call $say_x (i32.const 1) (i32.const 1000)))))
    (if (i32.eq (local.get $what) (i32.const 0x57)) (then
      (return (call $say (i32.const 2)
        (i32.add (local.get $payload) (i32.const 1)) (i32.sub (local.get $bytes) (i32.const 1))))))
    (if (i32.eq (local.get $what) (i32.const 0x4f)) (then
      (return (call $say_x (i32.const 2) (i32.const 16385)))))
    (if (i32.eq (local.get $what) (i32.const 0x4e)) (then
      (i32.store8 (i32.const 176) (i32.add (global.get $calls) (i32.const 48)))
      (return (call $say (i32.const 2) (i32.const 176) (i32.const 1)))))
    (if (i32.eq (local.get $what) (i32.const 0x53)) (then
      (call $read (i32.const 64) (i32.const 7)
        (i32.add (local.get $payload) (i32.const 1)) (i32.sub (local.get $bytes) (i32.const 1)) (i32.const 32))
      (if (i32.load (i32.const 36)) (then
        (return (call $say (i32.const 1)
          (i32.load (i32.load (i32.const 32))) (i32.load offset=4 (i32.load (i32.const 32)))))))))
    (if (i32.eq (local.get $what) (i32.const 0x55)) (then
      (call $read (i32.const 80) (i32.const 6) (local.get $payload) (local.get $bytes) (i32.const 32))))
    (call $say (i32.const 0) (i32.const 0) (i32.const 0)))
)
