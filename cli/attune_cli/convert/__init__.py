"""Rules out of the manifests of Argo Events, Knative and StackStorm (docs/coming-from.md). Pure: texts in, objects out."""
