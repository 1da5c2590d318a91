new ResizeObserver(layout).observe(view);
watch("value", () => show(props.value));
show(props.value);
