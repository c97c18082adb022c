"""The loop: monitor, injection policies, injector, driver and journal."""
