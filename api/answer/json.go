package answer

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/docker/docker/api/types"
)

// JSON answers with v. It encodes aside, so that a value that cannot be encoded is an error with nothing written.
func JSON(w http.ResponseWriter, code int, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(buf.Bytes()) // a client that has gone needs no answer
	return nil
}

// EncodedJSON answers with what is JSON already.
func EncodedJSON(w http.ResponseWriter, code int, v io.WriterTo) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = v.WriteTo(w) // a client that has gone needs no answer
	return nil
}

// Error answers with an error as Docker words it. 304 has no body.
func Error(w http.ResponseWriter, code int, message string) {
	_ = JSON(w, code, &types.ErrorResponse{Message: message})
}

// Nothing answers 204.
func Nothing(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
