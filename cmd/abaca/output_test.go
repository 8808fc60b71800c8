package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestPrintItemKeepsTheServersKeysAndOrder(t *testing.T) {
	item := json.RawMessage(`{"id": "1", "zone": "nova", "name": null, "empty": "", "size": 3, "tags": {"a": "b"}, "links": ["x"]}`)
	for format, want := range map[string]string{
		"table": "id     1\nzone   nova\nname   -\nempty  -\nsize   3\ntags   {\"a\":\"b\"}\n",
		"json":  "{\n  \"id\": \"1\",\n  \"zone\": \"nova\",\n  \"name\": null,\n  \"empty\": \"\",\n  \"size\": 3,\n  \"tags\": {\n    \"a\": \"b\"\n  },\n  \"links\": [\n    \"x\"\n  ]\n}\n",
	} {
		t.Run(format, func(t *testing.T) {
			r := &remote{format: choice{value: format}}
			var out bytes.Buffer
			if err := r.printItem(&out, item); err != nil {
				t.Fatal(err)
			}
			if out.String() != want {
				t.Errorf("got\n%s, want\n%s", out.String(), want)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"words stay", "monday's ünïcode 備份", "monday's ünïcode 備份"},
		{"nothing is a dash", "", "-"},
		{"escape sequences are shown, not obeyed", "\x1b[2Jgone", `"\x1b[2Jgone"`},
		{"a line break cannot make a row", "a\nb", `"a\nb"`},
		{"a tab cannot make a column", "a\tb", `"a\tb"`},
		{"writing from right to left is not turned on", "a\u202eb", `"a\u202eb"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := printable(test.text); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
