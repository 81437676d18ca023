;; A guest that misbehaves on request: the first byte of an event's value says
;; how. Written by hand, so that the tests need no Wasm toolchain.
;;
;;   T trap   P log an error, then trap   L loop for ever   B take all memory
;;   E answer with an error               O answer with 16 MiB
;;   U forward to a topic that was not granted
;;   S set state (key and value: the event's value), then forward
;;   G get state (key: `S` and the rest of the value); trap unless it is there
;;   C send a command   R reject         else: forward to `out`
;;   D set what is desired of device `out`: the rest of the value
;;   W get what `out` has reported; trap unless there is something; then forward
;;
;; Settings: any makes `init` fail.
(module
  (import "edgeway:plugin/state@1.1.0" "set" (func $set (param i32 i32 i32 i32)))
  (import "edgeway:plugin/state@1.1.0" "get" (func $get (param i32 i32 i32)))
  (import "edgeway:plugin/twins@1.1.0" "reported" (func $reported (param i32 i32 i32)))
  (import "edgeway:plugin/host@1.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 64)
  (data (i32.const 64) "out")
  (data (i32.const 80) "secret")
  (data (i32.const 96) "told so")
  (data (i32.const 112) "no settings wanted")
  (data (i32.const 144) "cool")
  (data (i32.const 160) "panicked at x")

  (global $next (mut i32) (i32.const 4096))
  (global $action (mut i32) (i32.const 0))
  (global $count (mut i32) (i32.const 0))

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

  (func (export "edgeway:plugin/consumer@1.1.0#init") (param i32) (param $settings i32) (result i32)
    (i32.store8 (i32.const 16) (i32.ne (local.get $settings) (i32.const 0)))
    (i32.store (i32.const 20) (i32.const 112))
    (i32.store (i32.const 24) (i32.const 18))
    (i32.const 16))

  (func (export "cabi_post_edgeway:plugin/consumer@1.1.0#process") (param i32)
    (global.set $next (i32.const 4096)))

  ;; Begins an action of this kind about the event at $index.
  (func $begin (param $kind i32) (param $index i32)
    (i32.store8 (global.get $action) (local.get $kind))
    (i32.store offset=8 (global.get $action) (local.get $index)))
  (func $end
    (global.set $action (i32.add (global.get $action) (i32.const 64)))
    (global.set $count (i32.add (global.get $count) (i32.const 1))))

  (func $forward (param $index i32) (param $topic i32) (param $bytes i32)
    (call $begin (i32.const 1) (local.get $index))
    (i32.store offset=12 (global.get $action) (local.get $topic))
    (i32.store offset=16 (global.get $action) (local.get $bytes))
    (call $end))

  (func $flood (param $index i32)
    (local $left i32)
    (local.set $left (i32.const 16))
    (loop $more
      (call $begin (i32.const 0) (local.get $index))
      (i32.store offset=12 (global.get $action) (i32.const 64))
      (i32.store offset=16 (global.get $action) (i32.const 3))
      (i32.store offset=36 (global.get $action) (i32.const 0x100000))
      (call $end)
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))

  (func $command (param $index i32)
    (call $begin (i32.const 2) (local.get $index))
    (i32.store offset=12 (global.get $action) (i32.const 64))
    (i32.store offset=16 (global.get $action) (i32.const 3))
    (i32.store offset=20 (global.get $action) (i32.const 144))
    (i32.store offset=24 (global.get $action) (i32.const 4))
    (call $end))

  (func $desire (param $index i32) (param $document i32) (param $bytes i32)
    (call $begin (i32.const 4) (local.get $index))
    (i32.store offset=12 (global.get $action) (i32.const 64))
    (i32.store offset=16 (global.get $action) (i32.const 3))
    (i32.store offset=20 (global.get $action) (local.get $document))
    (i32.store offset=24 (global.get $action) (local.get $bytes))
    (call $end))

  (func $reject (param $index i32)
    (call $begin (i32.const 3) (local.get $index))
    (i32.store offset=12 (global.get $action) (i32.const 96))
    (i32.store offset=16 (global.get $action) (i32.const 7))
    (call $end))

  ;; Does what an event asks for; 1 if the call is to end with an error.
  (func $obey (param $index i32) (param $value i32) (param $bytes i32) (result i32)
    (local $what i32)
    (local.set $what (i32.load8_u (local.get $value)))
    (if (i32.eq (local.get $what) (i32.const 0x54)) (then unreachable))
    (if (i32.eq (local.get $what) (i32.const 0x50)) (then
      (call $log (i32.const 4) (i32.const 160) (i32.const 13))
      unreachable))
    (if (i32.eq (local.get $what) (i32.const 0x4c)) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $what) (i32.const 0x42)) (then
      (loop $more (drop (call $take (i32.const 0x100000))) (br $more))))
    (if (i32.eq (local.get $what) (i32.const 0x45)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 0x4f)) (then
      (call $flood (local.get $index)) (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 0x55)) (then
      (call $forward (local.get $index) (i32.const 80) (i32.const 6)) (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 0x43)) (then
      (call $command (local.get $index)) (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 0x52)) (then
      (call $reject (local.get $index)) (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 0x44)) (then
      (call $desire (local.get $index)
        (i32.add (local.get $value) (i32.const 1)) (i32.sub (local.get $bytes) (i32.const 1)))
      (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 0x57)) (then
      (call $reported (i32.const 64) (i32.const 3) (i32.const 32))
      (if (i32.eqz (i32.load8_u (i32.const 32))) (then unreachable))))
    (if (i32.eq (local.get $what) (i32.const 0x53)) (then
      (call $set (local.get $value) (local.get $bytes) (local.get $value) (local.get $bytes))))
    (if (i32.eq (local.get $what) (i32.const 0x47)) (then
      (i32.store8 (local.get $value) (i32.const 0x53))
      (call $get (local.get $value) (local.get $bytes) (i32.const 32))
      (if (i32.eqz (i32.load8_u (i32.const 32))) (then unreachable))))
    (call $forward (local.get $index) (i32.const 64) (i32.const 3))
    (i32.const 0))

  (func (export "edgeway:plugin/consumer@1.1.0#process")
    (param i32 i32 i32 i64) (param $events i32) (param $length i32) (result i32)
    (local $index i32) (local $event i32) (local $actions i32)
    ;; Each event causes 16 actions of 64 bytes at most. Fresh memory is zero,
    ;; used memory is not: clear it.
    (local.set $actions (call $take (i32.shl (local.get $length) (i32.const 10))))
    (memory.fill (local.get $actions) (i32.const 0) (i32.shl (local.get $length) (i32.const 10)))
    (global.set $action (local.get $actions))
    (global.set $count (i32.const 0))
    (local.set $event (local.get $events))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $length)))
        (if (call $obey (local.get $index)
              (i32.load offset=28 (local.get $event))
              (i32.load offset=32 (local.get $event)))
          (then
            (i32.store8 (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (i32.const 96))
            (i32.store (i32.const 24) (i32.const 7))
            (return (i32.const 16))))
        (local.set $event (i32.add (local.get $event) (i32.const 48)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (local.get $actions))
    (i32.store (i32.const 24) (global.get $count))
    (i32.const 16))
)
