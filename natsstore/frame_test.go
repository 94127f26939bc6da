package natsstore

import (
	"bytes"
	"testing"
)

// FuzzFrame decodes any bytes. What can be decoded is encoded to the same.
func FuzzFrame(f *testing.F) {
	for _, kind := range []byte{eventKind, beginKind, positionKind, snapshotKind, fillerKind, 'x'} {
		example := frame{kind: kind, first: kind == eventKind, write: newWriteID(), number: 300, topic: "Dog.Registered", state: []byte("state")}
		f.Add(example.encode())
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		decoded, err := decodeFrame(data)
		if err != nil {
			return
		}
		again, err := decodeFrame(decoded.encode())
		if err != nil || again.kind != decoded.kind || again.number != decoded.number || again.topic != decoded.topic ||
			again.write != decoded.write || again.first != decoded.first || !bytes.Equal(again.state, decoded.state) {
			t.Errorf("got %+v and the error %v, want %+v", again, err, decoded)
		}
	})
}

// FuzzToken makes tokens of names, which are the names again.
func FuzzToken(f *testing.F) {
	for _, name := range []string{"TrainingSchool", "犬 School", "a.b", "=x", "*", ">", "-_", "e\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		got := token(name)
		if back, ok := nameOf(got); !ok || back != name || bytes.ContainsAny([]byte(got), " .*>\t\r\n/\\") {
			t.Errorf("token(%q) = %q, which is the token of %q, %v", name, got, back, ok)
		}
	})
}
