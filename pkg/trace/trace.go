// Package trace tells where the time of a request goes: spans of OpenTelemetry through all rooms, off until a daemon is
// asked to write them down.
package trace

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// tracer is nobody's until To says whose.
var tracer = otel.Tracer("github.com/nereid-paas/nereid")

// ContainerKey is the attribute that names the container a span is about; spans below it are about the same.
const ContainerKey = "container"

// Start begins a span below the one in the context; the caller ends it. While nothing is traced both are as good as
// free. It may be called by any goroutine.
func Start(ctx context.Context, name string) (context.Context, trace.Span) {
	return tracer.Start(ctx, name)
}

// About is Start of a span about a container, by its id. It begins a trace of its own where the context has none.
func About(ctx context.Context, name, container string) (context.Context, trace.Span) {
	return tracer.Start(ctx, name, trace.WithAttributes(attribute.String(ContainerKey, container)))
}

// Tell names the container that the span in the context has turned out to be about.
func Tell(ctx context.Context, container string) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String(ContainerKey, container))
}

// Do runs f within a span of its own.
func Do(ctx context.Context, name string, f func(context.Context) error) error {
	ctx, span := Start(ctx, name)
	defer span.End()
	return f(ctx)
}
