package engine

import "slices"

// labelWarnings are what create says of labels that the name service cannot use. Nothing else depends on them.
func (c *Containers) labelWarnings(labels map[string]string) []string {
	if c.LabelProblems == nil {
		return nil
	}
	var all []string
	for _, p := range slices.Sorted(slices.Values(c.LabelProblems(labels))) {
		all = append(all, "Label "+p)
	}
	return all
}
