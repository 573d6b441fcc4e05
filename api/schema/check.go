package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Operations lists what the file documents: "GET /containers/json" and so on, sorted.
func (v *Validator) Operations() []string {
	var ops []string
	for _, r := range v.routes {
		for method := range r.item.Operations() {
			ops = append(ops, method+" "+r.path)
		}
	}
	slices.Sort(ops)
	return ops
}

// Check tells what is wrong with an answer: an operation or a success the file does not know, a content type it does
// not have, a body that is not as its schema says. Errors it does not document must be {"message": text}. A body that
// streams several JSON values is checked value by value; one whose operation has no schema may be anything.
func (v *Validator) Check(method, path string, status int, contentType string, body []byte) error {
	op, name, err := v.operation(method, path)
	if err != nil {
		return err
	}
	if err := check(op, method, status, contentType, body); err != nil {
		return fmt.Errorf("%s %s (%s): status %d: %w", method, path, name, status, err)
	}
	return nil
}

// Operation is what Operations calls the one that a request asks for.
func (v *Validator) Operation(method, path string) (string, error) {
	_, name, err := v.operation(method, path)
	if err != nil {
		return "", err
	}
	return method + " " + name, nil
}

func (v *Validator) operation(method, path string) (*openapi3.Operation, string, error) {
	path, _, _ = strings.Cut(path, "?")
	for _, r := range v.routes {
		if op := r.item.GetOperation(method); op != nil && r.match.MatchString(path) {
			return op, r.path, nil
		}
	}
	return nil, "", fmt.Errorf("%s %s: no such operation", method, path)
}

func check(op *openapi3.Operation, method string, status int, contentType string, body []byte) error {
	resp := op.Responses.Value(strconv.Itoa(status))
	if op.OperationID == "ExecStart" && status == http.StatusSwitchingProtocols {
		return nil // the file knows of the 101 of attach only; both take the connection over alike
	}
	switch {
	case method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified:
		if len(body) > 0 {
			return errors.New("a body where there can be none")
		}
		if resp == nil && status < http.StatusMultipleChoices {
			return errors.New("not documented")
		}
		return nil
	case resp == nil && status < http.StatusBadRequest:
		return errors.New("not documented")
	case status >= http.StatusBadRequest:
		return checkError(op, contentType, body)
	}
	if op.OperationID == "SystemEvents" && len(body) == 0 {
		return nil // nothing happened
	}
	return checkSuccess(resp.Value, contentType, body)
}

// checkError: whatever the file says, a client looks for a message. Attach, and it alone, answers as text.
func checkError(op *openapi3.Operation, contentType string, body []byte) error {
	if contentType == "application/vnd.docker.raw-stream" && op.OperationID == "ContainerAttach" {
		return nil
	}
	if contentType != "application/json" {
		return fmt.Errorf("error with content type %q", contentType)
	}
	var e struct{ Message *string }
	if err := json.Unmarshal(body, &e); err != nil || e.Message == nil || *e.Message == "" {
		return fmt.Errorf(`error without a message: %.100q`, body)
	}
	return nil
}

func checkSuccess(resp *openapi3.Response, contentType string, body []byte) error {
	if resp == nil || len(resp.Content) == 0 {
		return nil
	}
	media := resp.Content.Get(contentType)
	if media == nil {
		return fmt.Errorf("content type %q: the file has %v", contentType, slices.Sorted(keys(resp.Content)))
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	if media.Schema == nil || kind != "application/json" {
		return nil
	}
	return checkValues(media.Schema.Value, body)
}

func keys(c openapi3.Content) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range c {
			if !yield(k) {
				return
			}
		}
	}
}

// checkValues checks each JSON value of a body. There must be one.
func checkValues(s *openapi3.Schema, body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for n := 0; ; n++ {
		var value any
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("value %d of the body: %w", n, err)
		}
		if err := s.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsResponse()); err != nil {
			return fmt.Errorf("value %d of the body: %w", n, short(err))
		}
	}
}

// short says where an answer departs from its schema without printing the schema.
func short(err error) error {
	var many openapi3.MultiError
	if errors.As(err, &many) {
		var all []error
		for _, e := range many {
			all = append(all, short(e))
		}
		return errors.Join(all...)
	}
	var one *openapi3.SchemaError
	if errors.As(err, &one) {
		return fmt.Errorf("at /%s: %s (got %.80v)", strings.Join(one.JSONPointer(), "/"), one.Reason, one.Value)
	}
	return err
}
